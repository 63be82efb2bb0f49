"""What an event loop is to do soon, and a thread does if the loop does not get to it.

An answer that has arrived is settled by its loop, a few in each pass so that nothing stands still. The loop may be
stopped or closed before that. So what has to wait is announced here first; it is called once
the loop gets no further with what was announced, and before anything is closed that it needs. A loop that is only busy
is left alone: a second thread would take the interpreter from it, and both would be slower.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from typing import Protocol

from lm_deluge._per_process import PerProcess
from lm_deluge._threads import start_daemon

__all__ = ["Settling", "announce", "flush", "settle_abandoned", "waits_elsewhere"]

_log = logging.getLogger("lm_deluge")

_SECONDS = 0.05  # for a loop that gets no further
_MOST_SECONDS = 1.0  # for one of several, of which another gets further
_IDLE_SECONDS = 5.0


class Settling(Protocol):
    """What is to be done.

    Attributes:
        is_settled: whether it is done.
    """

    @property
    def is_settled(self) -> bool: ...

    def settle_if_idle(self) -> None:
        """Do it, unless it is done or another thread is about it. From any thread."""


class _Announced:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: deque[tuple[float, asyncio.AbstractEventLoop, Settling]] = deque()
        self.running = False
        self.calling = threading.RLock()  # so that ``flush`` returns after what another thread has taken


_announced = PerProcess(_Announced)


def announce(settling: Settling) -> None:
    """Have something done in any case, soon. To be called on the event loop that is to do it."""
    state = _announced.get()
    loop = asyncio.get_running_loop()
    with state.changed:
        state.waiting.append((time.monotonic(), loop, settling))
        if not state.running:
            start_daemon("lm_deluge overdue", _work, state)
            state.running = True
        elif len(state.waiting) == 1:
            state.changed.notify_all()


def flush() -> None:
    """Do what was announced and is not done yet. Returns when that is done."""
    if not _announced.is_own:
        return  # it is the parent's
    state = _announced.get()
    while _settle_first(state):
        pass


def waits_elsewhere() -> bool:
    """Whether other event loops than the running one have something to do."""
    here = asyncio.get_running_loop()
    state = _announced.get()
    with state.changed:
        return any(loop is not here and not settling.is_settled for _, loop, settling in state.waiting)


def settle_abandoned() -> None:
    """Do now what event loops were to do that do not run any more."""
    state = _announced.get()
    with state.calling:  # also where nothing waits, for another thread may be about the last of them
        with state.changed:
            abandoned = [settling for _, loop, settling in state.waiting if not loop.is_running()]
        for settling in abandoned:
            _settle(settling)


def _work(state: _Announced) -> None:
    while True:
        with state.changed:
            if not state.changed.wait_for(lambda: bool(state.waiting), _IDLE_SECONDS):
                state.running = False
                return
        time.sleep(_SECONDS)
        settle_abandoned()
        now = time.monotonic()
        got_further = _drop_settled(state)
        while _waits_since(state) < now - (_MOST_SECONDS if got_further else _SECONDS):
            _settle_first(state)
            got_further = _drop_settled(state) or got_further


def _drop_settled(state: _Announced) -> bool:
    """Whether the loops have settled what was announced first."""
    dropped = False
    with state.changed:
        while state.waiting and state.waiting[0][2].is_settled:
            state.waiting.popleft()
            dropped = True
    return dropped


def _waits_since(state: _Announced) -> float:
    with state.changed:
        return state.waiting[0][0] if state.waiting else float("inf")


def _settle_first(state: _Announced) -> bool:
    with state.calling:
        with state.changed:
            if not state.waiting:
                return False
            _, _, settling = state.waiting.popleft()
        _settle(settling)
    return True


def _settle(settling: Settling) -> None:
    try:
        settling.settle_if_idle()
    except BaseException:  # noqa: BLE001 - the others have to be settled too
        _log.exception("an answer that had arrived could not be settled")
