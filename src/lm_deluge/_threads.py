"""Threads of our own for work that blocks, and may never return.

The default executor of an event loop belongs to the program, which may fill it with work of its own. And every executor
of ``concurrent.futures`` refuses work once the main thread has ended, although other threads may still be in the middle
of a run. These threads do neither. They are daemons, so that one that hangs does not keep the interpreter: what has to
be done before it ends is a ``Writer``'s. A call that shows no sign of life for a while can be given up; its thread is
lost until the call returns.
"""

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from lm_deluge._per_process import PerProcess
from lm_deluge.errors import CacheError

__all__ = ["Call", "CallHangs", "Threads", "carried", "in_thread", "made_progress", "start_daemon"]

T = TypeVar("T")

_IDLE_SECONDS = 2.0
_MOST_LOST = 8
_LOOK_SECONDS = 0.5

_here = threading.local()


class CallHangs(CacheError):
    """A call has not returned within its time, and shows no sign that it will."""


def made_progress() -> None:
    """Say that the call in this thread, if it is one of these, goes on: one of several steps is done."""
    call: Call[Any] | None = getattr(_here, "call", None)
    if call is not None:
        call.beat = time.monotonic()


class Call(Future[T]):
    """A call that waits, runs or is over.

    Attributes:
        beat: when it last showed that it goes on.
        given_up: whether its caller has stopped waiting.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        super().__init__()
        self._function = function
        self.beat = time.monotonic()
        self.given_up = False

    def make(self) -> None:
        """Run the function in this thread."""
        if not self.set_running_or_notify_cancel():
            return
        self.beat = time.monotonic()
        _here.call = self
        try:
            result = self._function()
        except BaseException as error:  # noqa: BLE001 - it is told to the caller
            self.set_exception(carried(error))
        else:
            self.set_result(result)
        finally:
            _here.call = None


class _State:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: deque[Call[Any]] = deque()
        self.running: set[Call[Any]] = set()
        self.threads = 0
        self.idle = 0
        self.lost = 0


class Threads:
    """Threads that start when there is work and end when there has been none for a moment.

    Args:
        name: of the threads.
        most: how many there are at once; None for as many as there are calls.
    """

    def __init__(self, name: str, *, most: int | None = None) -> None:
        self._name = name
        self._most = most
        self._state = PerProcess(_State)

    def submit(self, function: Callable[[], T]) -> "Call[T]":
        """Have a function called, in turn."""
        call = Call(function)
        here = False
        state = self._state.get()
        with state.changed:
            state.waiting.append(call)
            if len(state.waiting) <= state.idle:
                state.changed.notify()
            elif self._most is None or state.threads < self._most:
                try:
                    start_daemon(self._name, self._work, state)
                    state.threads += 1
                except RuntimeError:
                    if not state.threads:  # no other thread would make it
                        state.waiting.pop()
                        here = True
        if here:
            call.make()
        return call

    def call(self, function: Callable[[], T], *, patience: float) -> T:
        """What a function gives.

        Raises:
            CallHangs: it made no progress for so many seconds, or too many others hang already.
            Exception: what the function raises.
        """
        self._check_lost()
        call = self.submit(function)
        while True:
            try:
                call.exception(max(call.beat + patience - time.monotonic(), 0.01))
            except TimeoutError:
                if self.is_stuck(call, patience):
                    self.give_up(call)
                    raise _hangs(patience) from None
            else:
                return call.result()

    async def run(self, function: Callable[[], T]) -> T:
        """What a function gives, without blocking the event loop, however long it takes. Cancelling takes it back if it
        has not begun."""
        return await asyncio.wrap_future(self.submit(function))

    async def run_within(self, function: Callable[[], T], *, patience: float, is_over: Callable[[], bool]) -> T:
        """``call`` without blocking; also given up when ``is_over`` says so before it began."""
        self._check_lost()
        call = self.submit(function)
        # Shielded: an answer on its way into the cache gets there even if its event loop is wound up.
        future = asyncio.ensure_future(asyncio.shield(asyncio.wrap_future(call)))
        try:
            while not future.done():
                await asyncio.wait({future}, timeout=_LOOK_SECONDS)
                if not future.done() and (self.is_stuck(call, patience) or (is_over() and not call.running())):
                    self.give_up(call)
                    raise _hangs(patience)
            return future.result()
        finally:
            future.cancel()

    def is_stuck(self, call: "Call[T]", patience: float) -> bool:
        """Whether a call, or each one that runs before it, makes no progress."""
        if call.done():
            return False
        before = time.monotonic() - patience
        if call.running():
            return call.beat <= before
        state = self._state.get()
        with state.changed:
            return bool(state.running) and all(one.beat <= before for one in state.running)

    def give_up(self, call: "Call[T]") -> None:
        """Wait no more for a call."""
        if call.cancel():
            return
        state = self._state.get()
        with state.changed:
            if call in state.running and not call.given_up:
                call.given_up = True
                state.lost += 1

    def _check_lost(self) -> None:
        if self._state.get().lost >= (_MOST_LOST if self._most is None else min(self._most, _MOST_LOST)):
            raise CallHangs("calls that were given up have still not returned")

    def _work(self, state: _State) -> None:
        while True:
            with state.changed:
                state.idle += 1
                found = state.changed.wait_for(lambda: bool(state.waiting), _IDLE_SECONDS)
                state.idle -= 1
                if not found:
                    state.threads -= 1
                    return
                call = state.waiting.popleft()
                state.running.add(call)
            call.make()
            with state.changed:
                state.running.discard(call)
                state.lost -= call.given_up
            del call


def _hangs(patience: float) -> CallHangs:
    return CallHangs(f"it has not answered for {patience:g} s")


_shared = Threads("lm_deluge worker", most=4)


async def in_thread(function: Callable[[], T]) -> T:
    """What ``function`` returns or raises, in a thread that all of this package shares."""
    return await _shared.run(function)


def start_daemon(name: str, function: Callable[..., None], *arguments: Any) -> None:
    """Start a thread.

    Raises:
        RuntimeError: none can be started: there are too many, or the interpreter ends. Python itself would wait for a
            thread that never runs, where a coroutine is closed by the interpreter's last collection.
    """
    if sys.is_finalizing():
        raise RuntimeError("no thread can be started while the interpreter ends")
    threading.Thread(target=function, args=arguments, name=name, daemon=True).start()


def carried(error: BaseException) -> Exception:
    """An error as another thread can be given it.

    ``StopIteration`` would leave a future pending, and what is no ``Exception`` (``SystemExit``, the panic of native
    code, a cancellation that is none of ours) would end the code that waits, rather than tell it.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    replacement = RuntimeError(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    replacement.__cause__ = error
    return replacement
