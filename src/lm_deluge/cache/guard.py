"""A cache that may fail to answer: a server, or an object of the user's.

A call that hangs is given up soon. After a few failures the cache is not called for a while (``breaker``): lookups and
leases fail at once. Answers that could not be stored are kept (``spill``). They are handed over when the cache answers
again, before lookups go on, so that none of them is bought twice.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

from lm_deluge._per_process import PerProcess
from lm_deluge._threads import CallHangs, Threads
from lm_deluge.cache.breaker import Breaker, Leave
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.runs import Run
from lm_deluge.cache.spill import Spill, Taker
from lm_deluge.errors import CacheError, CacheFileError

__all__ = ["Guard", "patience_of"]

T = TypeVar("T")

_PATIENCE = 30.0
_MOMENT = 1.0
_CLOSE_SECONDS = 10.0
_HAND_OVER_SECONDS = 60.0
_MOST_RUNS = 100

_log = logging.getLogger("lm_deluge")


def patience_of(store: Any) -> float | None:
    """Seconds for which a call of a store may show no progress. None for a store on this machine, which needs no
    guard."""
    patience: float | None = getattr(store, "patience", _PATIENCE)
    return patience if store.blocks else None


class _State:
    def __init__(self, spill: Spill) -> None:
        self.lock = threading.Lock()
        self.breaker = Breaker()
        self.spill = spill
        self.runs: dict[int, Run] = {}
        self.why = ""
        self.looking = threading.Lock()
        self.looked = False
        self.answers = False  # and what was kept is being handed over
        self.over = threading.Event()  # of that, and of the probe before it
        self.over.set()


class Guard:
    """Makes the calls of one cache, for all runs and threads of a process that use it.

    Attributes:
        workers: the threads that make its calls.

    Args:
        location: of the cache, for messages.
        taker: takes what was kept, in one thread at a time; None if nothing can be handed over.
        spill: makes what keeps answers; each process has its own.
        patience: seconds for which a call may show no progress.
        probe: asks the cache for something, to see whether it answers. Without one, the next call has to show it.
        most: how many calls are made at once; None for no limit.
        clock: monotonic.
    """

    def __init__(
        self,
        location: str,
        taker: Taker | None,
        spill: Callable[[], Spill],
        *,
        patience: float,
        probe: Callable[[], object] | None = None,
        most: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._location = location
        self._taker = taker
        self._probe = probe
        self._clock = clock
        self._patience = patience
        self._state = PerProcess(lambda: _State(spill()))
        self.workers: Threads = Threads("lm_deluge cache", most=most)
        self._helpers: Threads = Threads("lm_deluge cache recovery")

    # Calls

    def call(self, function: Callable[[], T]) -> T:
        """The result of a call of the cache.

        Raises:
            CacheError: it failed or hangs, or the cache is not called for now.
        """
        with self._reported():
            return self.workers.call(function, patience=self._patience)

    async def call_async(self, function: Callable[[], T]) -> T:
        """The same from an event loop, which does not wait."""
        with self._reported():
            return await self.workers.run_within(
                function, patience=self._patience, is_over=lambda: self._state.get().breaker.state == "open"
            )

    async def wait(self, call: Callable[[], Awaitable[T]]) -> T:
        """The same for what has to be awaited."""
        with self._reported():
            async with asyncio.timeout(self._patience):
                return await call()

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """One call, and what comes of it."""
        leave = self._leave()
        try:
            yield
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                self._withdraw(leave)
                raise
            raise self._failed(leave, error) from error
        self._succeeded(leave)

    def keep(self, entries: Sequence[Entry]) -> None:
        """Keep entries that the cache did not take. Blocks for a short time.

        Raises:
            CacheFileError: not even that is possible.
        """
        spill = self._state.get().spill
        dropped = spill.dropped
        spill.add(entries)
        if spill.dropped > dropped:
            raise CacheFileError(f"{spill.dropped - dropped} answers could not be kept either: {spill.place} is full")

    def keep_run(self, run: Run) -> None:
        """Keep the account of a run, in memory."""
        state = self._state.get()
        with state.lock:
            if len(state.runs) < _MOST_RUNS:
                state.runs[run.id] = run

    def look(self) -> None:
        """Before the first lookup: hand over what ended processes left. Blocks."""
        state = self._state.get()
        if state.looked:
            return
        with state.looking:
            if not state.looked:
                if state.spill.has_left():
                    self._hand_over(state, self._leave())
                state.looked = True

    def arrive(self) -> None:
        """A run begins: probe a cache that was not called for a while, because a miss costs money. Blocks for a moment,
        or while a cache that answers again takes what was kept for it."""
        self.look()
        state = self._state.get()
        if self.is_good:
            return
        with state.lock:
            state.breaker.hasten(self._clock())
            if self._probe is not None:
                self._leave_or_probe(state)
        if not state.over.wait(_MOMENT) and state.answers:
            state.over.wait(_HAND_OVER_SECONDS)

    @property
    def owes(self) -> bool:
        """Whether anything is kept."""
        state = self._state.get()
        return bool(state.spill.kept or state.runs)

    @property
    def is_good(self) -> bool:
        """Whether there is nothing for ``arrive`` to do."""
        state = self._state.get()
        return state.looked and state.breaker.state == "closed" and state.over.is_set()

    async def in_thread(self, function: Callable[[], None]) -> None:
        """Do something that blocks for a short time."""
        await asyncio.wrap_future(self._helpers.submit(function))

    def close(self) -> None:
        """Hand over what is kept if the cache answers; otherwise leave it to the next process. Blocks."""
        if not self._state.is_own:
            return
        state = self._state.get()
        if state.over.wait(_CLOSE_SECONDS) and (state.spill.kept or state.runs):
            with state.lock:
                leave = state.breaker.leave(self._clock())
            if leave is not None:
                self._hand_over(state, leave)
        state.spill.close()

    # Outcomes

    def _leave(self) -> Leave:
        state = self._state.get()
        with state.lock:
            leave = self._leave_or_probe(state)
        if leave is None:
            raise CacheFileError(f"it is not called until it answers again. {state.why}")
        return leave

    def _leave_or_probe(self, state: _State) -> Leave | None:
        leave = state.breaker.leave(self._clock())
        if leave == "probe" and self._probe is not None:
            # The probe runs in another thread, so no prompt waits for a reply that may not come.
            state.over.clear()
            self._helpers.submit(lambda: self._hand_over(state, "probe"))
            return None
        return leave

    def _succeeded(self, leave: Leave) -> None:
        state = self._state.get()
        if not state.spill.kept and not state.runs:
            with state.lock:
                state.breaker.succeeded(leave)
        elif leave == "probe" or state.breaker.state == "closed":
            with state.lock:
                if self._taker is None:
                    state.breaker.succeeded(leave)
                    return
                if not state.over.is_set():
                    return
                state.over.clear()
            self._helpers.submit(lambda: self._hand_over(state, leave))

    def _failed(self, leave: Leave, error: BaseException) -> CacheError:
        state = self._state.get()
        hangs = isinstance(error, (CallHangs, TimeoutError, asyncio.CancelledError))
        ours = isinstance(error, CacheError) and not isinstance(error, CallHangs)
        said = str(error) if ours else f"{type(error).__name__}: {error}".rstrip(": ")
        if isinstance(error, CallHangs):
            said = f"{self._location}: {error}"
        elif isinstance(error, TimeoutError) and not str(error):
            said = f"{self._location}: it has not answered for {self._patience:g} s"
        with state.lock:
            state.why = said.rstrip(".") + "."
            state.breaker.failed(leave, self._clock(), at_once=hangs)
        kind = CacheFileError if hangs or isinstance(error, CacheFileError) else CacheError
        return kind(
            f"{state.why} While it fails, it is asked only now and then. Answers are kept in {state.spill.place}, and "
            "go to it when it answers again, in this run or the next"
        )

    def _withdraw(self, leave: Leave) -> None:
        """The caller no longer waits, so the outcome of the call is not known."""
        if leave == "probe":
            state = self._state.get()
            with state.lock:
                state.breaker.failed(leave, self._clock())

    def _hand_over(self, state: _State, leave: Leave) -> None:
        kept = 0 if self._taker is None else state.spill.kept
        try:
            if leave == "probe" and self._probe is not None:
                self._probe()
            state.answers = True
            while True:
                if self._taker is not None:
                    state.spill.take_in(self._taker)
                    for run in list(state.runs.values()):
                        self._taker.record_run(run)
                        state.runs.pop(run.id, None)
                with state.lock:
                    if self._taker is None or not (state.spill.kept or state.runs):
                        state.breaker.succeeded(leave)
                        break
        except Exception as error:  # noqa: BLE001 - what it has not taken is kept, and tried again
            self._failed(leave, error)
            return
        finally:
            state.answers = False
            state.over.set()
        _log.info("%s answers, and has taken the %d answers that were kept for it", self._location, kept)


def _is_cancelled() -> bool:
    """Whether this task is cancelled, and not only what it has called."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False  # no event loop runs here
    return task is not None and task.cancelling() > 0
