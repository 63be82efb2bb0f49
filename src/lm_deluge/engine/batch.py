"""A run: prompts in, one response for each out, in bounded memory.

Prompts are looked up in chunks before anything is scheduled, so a hit costs a share of one lookup and nothing else.
What is missing becomes a task; only a few more tasks exist at a time than calls may be under way.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from lm_deluge.engine.calls import Caller, error_response
from lm_deluge.engine.ledger import Ledger
from lm_deluge.engine.local import Job, LocalCache
from lm_deluge.engine.notices import Notices
from lm_deluge.engine.settings import RunOptions
from lm_deluge.engine.shared import Shared
from lm_deluge.errors import LMDelugeError
from lm_deluge.events import AnswerReceived, Event, RunReport
from lm_deluge.prompt import Conversation, PromptLike, as_conversation
from lm_deluge.response import APIResponse

__all__ = ["Batch"]

_INLINE_TOKENS = 100_000  # about what is hashed in a millisecond
_UNREAD = 4096


class Batch:
    """One run over a client's shared state."""

    def __init__(
        self, shared: Shared, options: RunOptions, emit: Callable[[Event], None], *, first_id: int = 0
    ) -> None:
        self._shared = shared
        self._emit = emit
        self._ledger = Ledger()
        self._notices = Notices()
        self._started = shared.clock.monotonic()
        self._next_id = first_id
        models = [model.name for model in shared.settings.models]
        self._local = LocalCache(
            shared.cache,
            shared.pending,
            models=models,
            ledger=self._ledger,
            notices=self._notices,
            clock=shared.clock,
        )
        self._caller = Caller(shared, options, self._local, ledger=self._ledger, notices=self._notices, emit=emit)
        self._model = models[0]
        self._outbox = _Outbox()
        self._tasks: set[asyncio.Task[None]] = set()
        # Twice the calls that may be under way: prompts that wait for a retry must not hold up the others.
        self._room = asyncio.Semaphore(2 * shared.settings.max_concurrent)

    def report(self) -> RunReport:
        """What happened so far."""
        return self._ledger.report(seconds=self._shared.clock.monotonic() - self._started)

    async def responses(self, chunks: AsyncIterator[list[PromptLike]]) -> AsyncIterator[list[APIResponse]]:
        """Responses as they come, in lists. Leaving early cancels the calls under way."""
        feeder = asyncio.create_task(self._feed(chunks))
        try:
            while (ready := await self._outbox.take()) is not None:
                yield ready
            await feeder  # raises what the caller's own iterable raised, once all that was started is done
        finally:
            feeder.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(feeder, *self._tasks, return_exceptions=True)
        self._notices.raise_if_asked()

    async def _feed(self, chunks: AsyncIterator[list[PromptLike]]) -> None:
        try:
            async for prompts in chunks:
                await self._take_in(prompts)
        finally:
            while self._tasks:
                await asyncio.wait(self._tasks)
            self._outbox.close()

    async def _take_in(self, prompts: Sequence[PromptLike]) -> None:
        jobs, failed = await self._prepare(prompts)
        found = await self._local.look_up(jobs)
        hits = [response for response in found if response is not None]
        self._shared.count_hits(self._ledger, hits, self._emit)
        await self._outbox.put([*failed, *hits])
        for job, response in zip(jobs, found, strict=True):
            if response is None:
                await self._room.acquire()
                task = asyncio.create_task(self._answer(job))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _answer(self, job: Job) -> None:
        try:
            await self._outbox.put([await self._caller.answer(job)])
        finally:
            self._room.release()

    async def _prepare(self, prompts: Sequence[PromptLike]) -> tuple[list[Job], list[APIResponse]]:
        """Read, check and hash prompts. One that cannot be used is an error response at its own position."""
        prepared: list[Conversation | str] = []
        late: list[int] = []
        tokens = 0
        for position, prompt in enumerate(prompts):
            try:
                conversation = as_conversation(prompt)
            except LMDelugeError as error:
                prepared.append(str(error))
                continue
            prepared.append(conversation)
            if type(prompt) is str:
                tokens += len(prompt) // 4
                loaded = True
            else:
                tokens += sum([message.token_estimate for message in conversation.messages])
                loaded = conversation.is_loaded
            if tokens > _INLINE_TOKENS or not loaded:
                late.append(position)
            else:
                prepared[position] = _ready(conversation)
        if late:
            # Files are read and much text is hashed in a thread; the event loop goes on meanwhile.
            ready = await asyncio.to_thread(lambda: [_ready(prepared[position]) for position in late])
            for position, outcome in zip(late, ready, strict=True):
                prepared[position] = outcome
        now = self._shared.clock.monotonic()
        jobs: list[Job] = []
        failed: list[APIResponse] = []
        for id, outcome in enumerate(prepared, self._next_id):
            if isinstance(outcome, str):
                failed.append(error_response(id, outcome, model=self._model))
                self._ledger.add_answer(failed[-1], uncached_cost=None)
                self._emit(AnswerReceived(None, None, outcome))
            else:
                jobs.append(Job(id, outcome, now))
        self._next_id += len(prepared)
        return jobs, failed


def _ready(prompt: Conversation | str) -> Conversation | str:
    """The prompt with its media in memory and its digest known, or what is wrong with it."""
    if isinstance(prompt, str):
        return prompt
    try:
        loaded = prompt.load()
        loaded.digest  # noqa: B018 - computed here and kept, where it does not hold up anything
    except LMDelugeError as error:
        return str(error)
    return loaded


class _Outbox:
    """Responses on their way to the caller; whoever adds waits while too many are unread."""

    def __init__(self) -> None:
        self._ready: list[APIResponse] = []
        self._closed = False
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, responses: list[APIResponse]) -> None:
        if responses:
            self._ready.extend(responses)
            self._filled.set()
        if len(self._ready) > _UNREAD:
            self._room.clear()
            await self._room.wait()

    async def take(self) -> list[APIResponse] | None:
        """All that is ready, at least one; None at the end."""
        await self._filled.wait()
        self._filled.clear()
        if self._closed:
            self._filled.set()
        ready, self._ready = self._ready, []
        self._room.set()
        return ready or (None if self._closed else await self.take())

    def close(self) -> None:
        self._closed = True
        self._filled.set()
