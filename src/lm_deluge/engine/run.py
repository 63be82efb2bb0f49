"""A run: prompts in, one response for each out, in bounded memory.

Prompts are looked up in chunks before anything is scheduled, so a hit costs a share of one lookup and nothing else.
What is missing goes to an executor. Responses come out as they are ready.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence, Sized
from typing import Self

from lm_deluge import _overdue as overdue
from lm_deluge._interrupts import deferred
from lm_deluge._loops import a_loop_runs_here
from lm_deluge._threads import in_thread
from lm_deluge.cache.found import RunContext
from lm_deluge.cache.writer import Write
from lm_deluge.engine.chunks import Outbox, chunked, prepare
from lm_deluge.engine.executor import Executor, Interactive
from lm_deluge.engine.item import Item, error_response
from lm_deluge.engine.local_cache import LocalCache
from lm_deluge.engine.report import Account, Reporter
from lm_deluge.engine.settings import RunOptions, parameters_of
from lm_deluge.engine.state import EngineState
from lm_deluge.errors import CacheMissError
from lm_deluge.events import Event, RunFinished, RunReport, RunStarted
from lm_deluge.prompt import Conversation, PromptLike
from lm_deluge.prompt_cache.write_audit import WriteAudit
from lm_deluge.response import APIResponse

__all__ = ["Run"]

_AT_ONCE = 512
_ACCOUNT_SECONDS = 1.0


class Run:
    """One run over a client's shared state, from its first event to its report::

        async with Run(...) as run:
            while ready := await run.take():
                ...

    It is no asynchronous generator, for the reason that ``Source`` gives.

    Args:
        prompts: any iterable; it is read as fast as its prompts can be worked on.
        emit: called with each event; the last one has the report, however the run ends.
        first_id: ``id`` of the first response.
        account: of the run that this is a call of; a run of its own by default.
    """

    def __init__(
        self,
        state: EngineState,
        prompts: Iterable[PromptLike] | AsyncIterable[PromptLike],
        options: RunOptions,
        *,
        emit: Callable[[Event], None],
        first_id: int = 0,
        account: Account | None = None,
    ) -> None:
        self._total = len(prompts) * options.samples if isinstance(prompts, Sized) else None
        self._source = chunked(prompts)
        self._tell = emit
        self._ending = contextlib.ExitStack()
        self._state = state
        self._outbox = Outbox()
        writes = WriteAudit(
            state.caching.write_log,
            goes_on=options.prompt_cache is None or options.prompt_cache.goes_on,
            tools=options.tools,
        )
        self._reporter = Reporter(self._guarded(emit), writes)
        self._started = state.clock.monotonic()
        self._ended: float | None = None
        self._next_id = first_id
        self._options = options
        models = [model.name for model in state.settings.models]
        opener = state.opener(options.cache_mode)
        # Worked out once, and only for those who need it: the local cache, and the plans for the provider's.
        needed = opener is not None or options.prompt_cache is not None
        parameters = parameters_of(state.settings, options) if needed else {}
        self._is_alone = account is None
        if account is None:
            account = Account(options.run_name, options.tags, tuple(models), state.clock)
        self._account = account
        self._part: int | None = None
        context = RunContext(
            parameters=tuple(parameters.values()),
            max_age=options.max_age,
            samples=options.samples,
            run=account.id,
        )
        self._local = LocalCache(
            opener, context, state.pending, mode=options.cache_mode, reporter=self._reporter, clock=state.clock
        )
        self._executor: Executor = Interactive(
            state, options, parameters, local=self._local, outbox=self._outbox, reporter=self._reporter
        )
        self._model = models[0]
        self._feeder: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

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
        return self._reporter.counters.report(seconds=now - self._started)

    def at_end(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called when the run is over, after its last event. To be said before it begins."""
        self._ending.callback(callback)

    async def __aenter__(self) -> Self:
        self._state.client.check_open()
        if overdue.waits_elsewhere():
            await in_thread(overdue.flush)  # so that what other loops have received is found
        self._ending.enter_context(deferred(self))
        self._state.runs.add(self)
        self._ending.callback(self._finished)
        try:
            self._tell(RunStarted(self._total, tuple(model.name for model in self._state.settings.models)))
            self._executor.begin()  # warns of what no request will hold, before the first one
        except BaseException:
            self._ending.close()
            raise
        self._reporter.warnings.sending = True
        if self._is_alone:
            self._state.limits.begin(self._state.clock.monotonic())
        if self._local.keeps:
            self._part = self._account.begin(self._local.record)
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
            if not a_loop_runs_here():
                self._close_account(is_over=True)
                return  # nothing can be awaited any more; what has arrived is settled without that
            self._stop()
            if self._executor.is_busy:
                # Where the event loop is being wound up, it may not come to what follows.
                self._close_account(is_over=False)
            if self._feeder is not None:
                await asyncio.gather(self._feeder, return_exceptions=True)
            await self._executor.finish()
            recorded = self._close_account(is_over=True)
            if recorded is not None and (self._is_alone or self._reporter.counters.calls):
                # It is written in any case. Those who look at once should find it. But a writer that is held up
                # does not hold up the run, and a single prompt that was a hit does not wait for a disk.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_ACCOUNT_SECONDS):
                        await recorded.over()
        finally:
            self._ending.close()

    def _finished(self) -> None:
        self._tell(RunFinished(self.report()))

    def _stop(self) -> None:
        """Ask nothing more. What has arrived is settled all the same."""
        if self._feeder is not None:
            self._feeder.cancel()
        self._executor.stop()

    def refuse(self) -> None:
        """The client is closed: every prompt that is not in flight has its error now. From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._executor.refuse)

    def end(self) -> None:
        """End as if the run had been cancelled."""
        self._stop()
        self._outbox.fail(asyncio.CancelledError())

    def _close_account(self, *, is_over: bool) -> Write | None:
        self._ended = self._state.clock.monotonic()
        if self._part is None:
            return None
        return self._account.update(self._part, self.report(), self._local.record, is_over=is_over)

    async def _feed(self) -> None:
        try:
            while prompts := await self._source.take():
                await self._take_in(prompts)
        finally:
            await self._source.close()
            await self._executor.drain()
            self._outbox.close()

    async def _take_in(self, prompts: Sequence[PromptLike]) -> None:
        for number, items in enumerate(self._items(await prepare(prompts))):
            if number:
                await asyncio.sleep(0)  # between many samples of one chunk the event loop goes on
            await self._look_up(items)

    async def _look_up(self, items: Sequence[Item]) -> None:
        # All of them count as waiting before they are looked up, so an answer that is stored meanwhile is noticed.
        unasked = deque(items)
        pending = self._state.pending
        pending.add(items)
        try:
            found = await self._local.look_up(items)
            hits = [response for response in found if response is not None]
            if hits:
                self._local.served(*hits)
                self._outbox.add(*hits)
            if self._options.prompt_cache is not None and self._local.mode != "offline":
                await self._executor.learn(
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
                self._executor.add(item)
                if self._executor.is_full:
                    await self._executor.room()
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
        return self._reporter.failed(error_response(id, message, model=self._model, sample=sample))
