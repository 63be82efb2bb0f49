"""Ctrl-C and other signals between two steps of an event loop, and not in the middle of one of ours.

Python raises ``KeyboardInterrupt`` between any two instructions of the main thread. In our code that may be after an
answer has come and before it is accepted for storing, or in the middle of a change of state. In the event loop's own
code it loses a step that something waits for: a callback that was just taken from the queue, or the count of the
cancelled tasks in ``asyncio.gather``, which then never ends. So while a run goes on in the main thread, an interrupt
that hits our code or the loop's is delivered as a callback of the loop, a moment later. One that hits the program's own
code is delivered at once, and so is every further one where the loop stands still. The same goes for a handler of
SIGTERM, which usually raises ``SystemExit``.
"""

import asyncio
import functools
import inspect
import signal
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Literal, Protocol

__all__ = ["Run", "deferred", "put_off"]

_OURS = __name__.partition(".")[0]
_LIBRARY = frozenset({*sys.stdlib_module_names, "uvloop"})
_STUCK_SECONDS = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# The frames that run an event loop: what is below them on the stack is not part of a step.
_RUNNERS = frozenset(
    {
        ("asyncio.events", "_run"),
        ("asyncio.base_events", "_run_once"),
        ("asyncio.base_events", "run_forever"),
        ("asyncio.base_events", "run_until_complete"),
        ("asyncio.runners", "run"),
        ("uvloop", "run"),
        (f"{_OURS}._loops", "_run"),
    }
)

Handler = Callable[[int, FrameType | None], Any]


class Run(Protocol):
    """What goes on when an interrupt comes."""

    def end(self) -> None:
        """Stop asking, and end as if it was cancelled. Called on the run's event loop."""
        ...


class _Deferral:
    """Stands before the handler of a signal that was there."""

    def __init__(self, signum: int, loop: asyncio.AbstractEventLoop, previous: Handler) -> None:
        self.signum = signum
        self.loop = loop
        self.previous = previous
        self.runs: weakref.WeakSet[Run] = weakref.WeakSet()
        self.count = 0
        self._pending: deque[float] = deque()

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        is_stuck = bool(self._pending) and now - self._pending[0] > _STUCK_SECONDS
        where = _where(frame)
        if self.count and where == "ours" and not is_stuck and self.loop.is_running():
            self._pending.append(now)
            with suppress(RuntimeError):  # closed in this moment
                self.loop.call_soon_threadsafe(self.deliver)
                return
        try:
            self.previous(signum, frame)
        except BaseException:
            if where != "theirs":
                with suppress(RuntimeError):
                    self.loop.call_soon_threadsafe(self._end_runs)
            raise

    def deliver(self) -> None:
        """Let the first interrupt take effect that was put off, if there is one."""
        if not self._pending:
            return
        self._pending.popleft()
        try:
            self.previous(self.signum, None)
        except BaseException:
            self._end_runs()
            raise

    def _end_runs(self) -> None:
        """What goes out of an event loop says nothing to the tasks in it. If the loop runs again, they end."""
        for run in list(self.runs):
            run.end()


def _where(frame: FrameType | None) -> Literal["ours", "theirs", "outside"]:
    """What an interrupt hits: our code or the event loop's, a coroutine of the program, or nothing that a task does.

    uvloop has no frames. So where the program has called it, what asyncio does for it is told by the innermost frame.
    """
    roots: list[str] = []
    found: Literal["theirs", "outside"] = "outside"
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if (module, frame.f_code.co_name) in _RUNNERS:
            break
        root = module.partition(".")[0]
        if root == _OURS:
            return "ours"
        roots.append(root)
        if root not in _LIBRARY and frame.f_code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            found = "theirs"
        frame = frame.f_back
    is_loop = _LIBRARY.issuperset(roots) or (found == "outside" and roots[0] == "asyncio")
    return "ours" if is_loop else found


@contextmanager
def deferred(run: Run) -> Iterator[None]:
    """For as long as a run goes on, on the event loop that runs here."""
    deferrals = [deferral for signum in _SIGNALS if (deferral := _install(signum)) is not None]
    for deferral in deferrals:
        deferral.count += 1
        deferral.runs.add(run)
    try:
        yield
    finally:
        for deferral in deferrals:
            deferral.count -= 1
            deferral.runs.discard(run)
            if not deferral.count:
                _uninstall(deferral)
        if threading.current_thread() is threading.main_thread():
            for deferral in deferrals:
                if not deferral.count:
                    deferral.deliver()  # it came so late that the loop has not got to it


@contextmanager
def put_off() -> Iterator[None]:
    """For the time of a block that must come to its end. One that takes long is interrupted by a further interrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers: dict[int, Handler] = {}
    pending: list[tuple[int, float]] = []

    def handle(signum: int, frame: FrameType | None) -> None:
        if pending and time.monotonic() - pending[0][1] > _STUCK_SECONDS:
            handlers[signum](signum, frame)
        else:
            pending.append((signum, time.monotonic()))

    for signum in _SIGNALS:
        present: Any = signal.getsignal(signum)
        if callable(present):
            handlers[signum] = present
            signal.signal(signum, handle)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            while isinstance(handler, _Deferral) and not handler.count:  # its runs have ended meanwhile
                handler = _still_wanted(handler.previous)
            handlers[number] = handler
            signal.signal(number, handler)
        for number, _ in pending:
            handlers[number](number, None)


def _install(signum: int) -> _Deferral | None:
    if threading.current_thread() is not threading.main_thread():
        return None  # Python calls handlers in the main thread alone
    loop = asyncio.get_running_loop()
    present: Any = signal.getsignal(signum)
    if isinstance(present, _Deferral):
        if present.loop is loop:
            return present
        present = _still_wanted(present.previous)
    if not callable(present):  # ignored, or handled by something that is not Python
        return None
    deferral = _Deferral(signum, loop, present)
    signal.signal(signum, deferral)
    return deferral


def _uninstall(deferral: _Deferral) -> None:
    is_in_place = signal.getsignal(deferral.signum) is deferral
    if is_in_place and threading.current_thread() is threading.main_thread():
        signal.signal(deferral.signum, _still_wanted(deferral.previous))


def _still_wanted(handler: Handler) -> Handler:
    """``asyncio.Runner`` takes its handler away when it is done, but not if ours stands before it."""
    if isinstance(handler, functools.partial) and getattr(handler.func, "__name__", "") == "_on_sigint":
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            is_run = (frame.f_globals.get("__name__"), frame.f_code.co_name) == ("asyncio.runners", "run")
            if is_run and frame.f_locals.get("self") is getattr(handler.func, "__self__", None):
                return handler
            frame = frame.f_back
        return signal.default_int_handler
    return handler
