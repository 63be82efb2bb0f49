"""A run: prompts in, one response for each out, in bounded memory.

Prompts are looked up in chunks before anything is scheduled, so a hit costs a share of one lookup and nothing else.
What is missing goes to workers: as many as calls may be under way, and a few more for those that wait for a retry.
"""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, Self

import msgspec

from lm_deluge import _overdue as overdue
from lm_deluge._interrupts import deferred
from lm_deluge.cache import runs
from lm_deluge.cache.found import RunContext
from lm_deluge.cache.writer import Write
from lm_deluge.engine.calls import Caller
from lm_deluge.engine.chunks import Outbox, chunked, prepare
from lm_deluge.engine.item import Item, error_response
from lm_deluge.engine.local_cache import LocalCache
from lm_deluge.engine.report import Counters
from lm_deluge.engine.settings import RunOptions, parameters_of
from lm_deluge.engine.state import EngineState
from lm_deluge.engine.warnings import Warnings
from lm_deluge.errors import CacheMissError
from lm_deluge.events import AnswerReceived, Event, RunFinished, RunReport, RunStarted
from lm_deluge.prompt import Conversation, PromptLike
from lm_deluge.prompt_cache.write_audit import Writes
from lm_deluge.response import APIResponse

__all__ = ["Run"]

_MOST_FOR_EACH_SLOT = 4
_MOST_WAITING_FOR_EACH_SLOT = 64
_AT_ONCE = 512
_ACCOUNT_SECONDS = 1.0
_ENDED = "The call for this prompt was ended from outside, before it had an answer. Run it again."


class Run:
    """One run over a client's shared state, from its first event to its report::

        async with Run(...) as run:
            while ready := await run.take():
                ...

    It is no asynchronous generator, for the reason that ``Source`` gives.

    Args:
        prompts: any iterable; it is read as fast as its prompts can be worked on.
        emit: called with each event.
        on_report: called with the report when the run ends, however it ends.
        first_id: ``id`` of the first response.
        kept: whether the cache keeps an account of the run.
    """

    def __init__(
        self,
        state: EngineState,
        prompts: Iterable[PromptLike] | AsyncIterable[PromptLike],
        options: RunOptions,
        *,
        emit: Callable[[Event], None],
        on_report: Callable[[RunReport], None],
        first_id: int = 0,
        kept: bool = True,
    ) -> None:
        self._total = len(prompts) * options.samples if isinstance(prompts, Sized) else None
        self._source = chunked(prompts)
        self._tell = emit
        self._on_report = on_report
        self._ending = contextlib.ExitStack()
        self._state = state
        self._outbox = Outbox()
        self._emit = self._guarded(emit)
        self._counters = Counters(
            Writes(
                state.write_log,
                goes_on=options.prompt_cache is None or options.prompt_cache.goes_on,
                tools=options.tools,
            )
        )
        self._warnings = Warnings()
        self._started = state.clock.monotonic()
        self._ended: float | None = None
        self._next_id = first_id
        self._options = options
        models = [model.name for model in state.settings.models]
        opener = None if options.cache_mode == "bypass" else state.cache
        # Worked out once, and only for those who need it: the local cache, and the plans for the provider's.
        needed = opener is not None or options.prompt_cache is not None
        parameters = parameters_of(state.settings, options) if needed else {}
        self._run = runs.Run(
            id=secrets.randbits(62) + 1,
            started=state.clock.time(),
            name=options.run_name,
            tags=options.tags,
            models=tuple(models),
        )
        context = RunContext(
            parameters=tuple(parameters.values()),
            max_age=options.max_age,
            samples=options.samples,
            run=self._run.id if kept else 0,
        )
        self._keeps_account = kept
        self._local = LocalCache(
            None if opener is None else opener(context),
            state.pending,
            mode=options.cache_mode,
            models=models,
            counters=self._counters,
            warnings=self._warnings,
            clock=state.clock,
        )
        self._caller = Caller(
            state,
            options,
            self._local,
            counters=self._counters,
            warnings=self._warnings,
            emit=self._emit,
            on_rest=self._on_rest,
            on_wait=self._on_wait,
            parameters=parameters,
        )
        self._model = models[0]
        self._misses: deque[Item] = deque()
        self._room = asyncio.Event()
        self._feeder: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._working: dict[asyncio.Task[Any], Item] = {}
        self._loop = asyncio.get_running_loop()
        self._workers = 0
        self._resting = 0
        self._waiting = 0
        self._closing = False

    def _guarded(self, emit: Callable[[Event], None]) -> Callable[[Event], None]:
        """What ends the program in a listener ends the run, and not the call in the middle of which it happened."""

        def guarded(event: Event) -> None:
            try:
                emit(event)
            except BaseException as error:  # noqa: BLE001 - it is raised where the responses are taken
                self._outbox.fail(error)

        return guarded

    def report(self) -> RunReport:
        """What happened so far."""
        now = self._state.clock.monotonic() if self._ended is None else self._ended
        return self._counters.report(seconds=now - self._started)

    def at_end(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called when the run is over, after its last event. To be said before it begins."""
        self._ending.callback(callback)

    async def __aenter__(self) -> Self:
        self._state.lifetime.check()
        overdue.settle_abandoned()  # so that what a loop that has ended received is found
        self._ending.enter_context(deferred(self))
        self._state.runs.add(self)
        self._ending.callback(self._finished)
        try:
            self._tell(RunStarted(self._total, tuple(model.name for model in self._state.settings.models)))
            self._caller.prepare()  # warns of what no request will hold, before the first one
        except BaseException:
            self._ending.close()
            raise
        self._warnings.sending = True
        if self._keeps_account:
            self._state.limits.begin()
            # At the beginning, so that the entries of a run that is killed can still be told by its name and tags.
            self._local.record(self._run)
        self._feeder = asyncio.create_task(self._feed())
        return self

    async def take(self) -> list[APIResponse]:
        """The responses that are ready, as soon as there are any; an empty list at the end.

        Raises:
            Exception: what the caller's own iterable raised, once all that was started is done.
        """
        ready = await self._outbox.take()
        if ready is None and self._feeder is not None:
            await self._feeder
        return ready or []

    async def __aexit__(self, *_: object) -> None:
        """Leaving early cancels the calls in flight."""
        try:
            if not _a_loop_runs():
                self._close_account()
                return  # nothing can be awaited any more; what has arrived is settled without that
            self._stop()
            if self._tasks:
                self._close_account()  # where the event loop is being wound up, what follows may not get its turn
            tasks = self._tasks if self._feeder is None else [self._feeder, *self._tasks]
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._caller.finish()
            recorded = self._close_account()
            if recorded is not None:
                # It is written in any case. Who looks at once should find it, but nobody waits for a writer elsewhere.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(recorded.over(), _ACCOUNT_SECONDS)
        finally:
            self._ending.close()

    def _finished(self) -> None:
        report = self.report()
        self._on_report(report)
        self._tell(RunFinished(report))

    def _stop(self) -> None:
        """Ask nothing more. What has arrived is settled all the same."""
        self._closing = True
        while self._misses:
            self._state.pending.remove(self._misses.popleft())
        if self._feeder is not None:
            self._feeder.cancel()
        for task in self._tasks:
            task.cancel()

    def refuse(self) -> None:
        """The client is closed: every prompt that is not in flight has its error now. From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._refuse)

    def _refuse(self) -> None:
        for task, item in self._working.items():
            if not item.is_sent and item.arrival is None:
                task.cancel()

    def end(self) -> None:
        """End as if the run had been cancelled."""
        self._stop()
        self._outbox.fail(asyncio.CancelledError())

    def _close_account(self) -> Write | None:
        self._ended = self._state.clock.monotonic()
        if not self._keeps_account:
            return None
        return self._local.record(msgspec.structs.replace(self._run, report=self.report()))

    async def _feed(self) -> None:
        try:
            while prompts := await self._source.take():
                await self._take_in(prompts)
        finally:
            await self._source.close()
            while self._tasks:
                await asyncio.wait(self._tasks)
            self._outbox.close()

    async def _take_in(self, prompts: Sequence[PromptLike]) -> None:
        for items in self._items(await prepare(prompts)):
            await self._look_up(items)
            await asyncio.sleep(0)  # many samples of one chunk leave the event loop its turns

    async def _look_up(self, items: Sequence[Item]) -> None:
        # All of them count as waiting before they are looked up, so an answer that is stored meanwhile is noticed.
        unasked = deque(items)
        pending = self._state.pending
        pending.add(items)
        try:
            found = await self._local.look_up(items)
            hits = [response for response in found if response is not None]
            if hits:
                self._state.count_hits(self._counters, hits, self._emit, store=self._local.location)
                self._outbox.add(*hits)
            if self._options.prompt_cache is not None and self._local.mode != "offline":
                await self._caller.learn(
                    [item for item, response in zip(items, found, strict=True) if response is None]
                )
            for response in found:
                item = unasked.popleft()
                if response is not None:
                    pending.remove(item)
                    continue
                if self._local.mode == "offline":
                    pending.remove(item)
                    self._outbox.add(await self._miss(item))
                    continue
                self._misses.append(item)
                self._hire()
                while len(self._misses) >= self._state.settings.max_concurrent:
                    self._room.clear()
                    await self._room.wait()
            await self._outbox.room()
        finally:
            for item in unasked:
                pending.remove(item)

    def _items(self, prepared: Sequence[Conversation | str]) -> Iterator[list[Item]]:
        """What is to be answered, in lists that are short enough to be looked up at once."""
        items: list[Item] = []
        now = self._state.clock.monotonic()
        samples = self._options.samples
        for prompt in prepared:
            for sample in range(samples):
                if isinstance(prompt, str):
                    self._outbox.add(self._failed(self._next_id, prompt, sample))
                    continue
                items.append(Item(self._next_id, prompt, now, sample=sample))
                if samples > 1 and len(items) >= _AT_ONCE:
                    yield items
                    items = []
            self._next_id += 1
        yield items

    async def _miss(self, item: Item) -> APIResponse:
        """The response of a prompt that an offline run has no answer for.

        Raises:
            CacheMissError: if that was asked for.
        """
        message = await self._local.explain_miss(item)
        if self._options.on_miss == "raise":
            raise CacheMissError(message)
        return self._failed(item.id, message, item.sample)

    def _failed(self, id: int, message: str, sample: int) -> APIResponse:
        response = error_response(id, message, model=self._model, sample=sample)
        self._counters.add_answer(response)
        self._emit(AnswerReceived(None, None, message))
        return response

    def _hire(self) -> None:
        """Start another worker if there is work and a call more may be under way."""
        # A worker that waits for a retry makes no call; another takes its place meanwhile, but not without end. One
        # that waits for a duplicate's answer holds nothing but its prompt, so there may be many more of those.
        most = self._state.settings.max_concurrent
        if self._closing or not self._misses:
            return
        waiting = min(self._waiting, _MOST_WAITING_FOR_EACH_SLOT * most)
        if self._workers - self._resting < most and self._workers - waiting < _MOST_FOR_EACH_SLOT * most:
            self._workers += 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _on_rest(self, change: int) -> None:
        self._resting += change
        if change > 0:
            self._hire()

    def _on_wait(self, change: int) -> None:
        self._waiting += change
        self._on_rest(change)

    async def _work(self) -> None:
        try:
            while self._misses and self._workers - self._resting <= self._state.settings.max_concurrent:
                item = self._misses.popleft()
                self._room.set()
                await self._answer(item)
                if self._outbox.is_full:
                    await self._outbox.room()
        finally:
            self._workers -= 1

    async def _answer(self, item: Item) -> None:
        """Get a prompt its response. Whatever ends the call, there is exactly one."""
        task = asyncio.current_task()
        if task is not None:
            self._working[task] = item
        response: APIResponse | None = None
        try:
            response = await self._caller.answer(item)
        except asyncio.CancelledError:
            closed = self._state.lifetime.closed
            if self._closing or closed is None or task is None:
                raise
            task.uncancel()
            response = self._failed(item.id, closed, item.sample)
        except GeneratorExit:
            self._closing = self._closing or not _a_loop_runs()  # it is gone, and with it whoever waits
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            self._outbox.fail(error)  # it ends the run, out of whose caller it comes
        finally:
            if task is not None:
                del self._working[task]
            self._state.pending.remove(item)
            if response is None and not self._closing:
                response = self._failed(item.id, _ENDED, item.sample)
            if response is not None:
                self._outbox.add(response)


def _a_loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
