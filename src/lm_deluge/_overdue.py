"""What an event loop is to do in a moment, and a thread does if the loop does not come to it.

An answer that has arrived is settled by its loop, a few in each pass so that nothing stands still. The loop may be
stopped or closed before its turn comes. So whatever has to wait for a turn is announced here first; it is called once
it is overdue, and before anything is closed that it needs.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from lm_deluge._per_process import PerProcess
from lm_deluge._threads import start_daemon

__all__ = ["announce", "flush", "settle_abandoned"]

_log = logging.getLogger("lm_deluge")

_SECONDS = 0.05
_IDLE_SECONDS = 5.0


class _Announced:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: deque[tuple[float, asyncio.AbstractEventLoop, Callable[[], None]]] = deque()
        self.running = False
        self.calling = threading.RLock()  # so that ``flush`` returns after what another thread has taken


_announced = PerProcess(_Announced)


def announce(settle: Callable[[], None]) -> None:
    """Have ``settle`` called in any case, soon. To be called on the event loop that is to do it.

    It is called from any thread, and does nothing if it was called before.
    """
    state = _announced.get()
    loop = asyncio.get_running_loop()
    with state.changed:
        state.waiting.append((time.monotonic() + _SECONDS, loop, settle))
        if not state.running:
            start_daemon("lm_deluge overdue", _work, state)
            state.running = True
        elif len(state.waiting) == 1:
            state.changed.notify_all()


def flush() -> None:
    """Call what was announced and not called yet. Returns when that is done."""
    if not _announced.is_own:
        return  # it is the parent's
    _call(_announced.get(), before=float("inf"))


def settle_abandoned() -> None:
    """Call now what event loops were to do that do not run any more."""
    state = _announced.get()
    if not state.waiting:
        return
    with state.calling:
        with state.changed:
            abandoned = [settle for _, loop, settle in state.waiting if not loop.is_running()]
        for settle in abandoned:
            _call_one(settle)


def _work(state: _Announced) -> None:
    while True:
        with state.changed:
            if not state.changed.wait_for(lambda: bool(state.waiting), _IDLE_SECONDS):
                state.running = False
                return
            due = state.waiting[0][0]
        pause = due - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        _call(state, before=time.monotonic())


def _call(state: _Announced, *, before: float) -> None:
    while True:
        with state.calling:
            with state.changed:
                if not state.waiting or state.waiting[0][0] > before:
                    return
                _, _, settle = state.waiting.popleft()
            _call_one(settle)


def _call_one(settle: Callable[[], None]) -> None:
    try:
        settle()
    except BaseException:  # noqa: BLE001 - the others have to be settled too
        _log.exception("an answer that had arrived could not be settled")
