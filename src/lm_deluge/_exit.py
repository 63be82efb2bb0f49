"""What has to be done before the interpreter ends, and what is left to do for objects that were not closed.

``weakref.finalize`` calls back when an object is collected, in the middle of the code of the thread that collects it.
What it calls may take no lock there, for that code may hold it, and may not block, for it may be an event loop's.
"""

import asyncio
import atexit
import itertools
import logging
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["at_exit", "close_dropped", "close_when_dropped", "is_in_use", "used_on"]

_methods: "dict[int, weakref.WeakMethod[Any]]" = {}
_numbers = itertools.count()
_dropped: deque[Callable[[], None]] = deque()
_INTERRUPTS = 4
_log = logging.getLogger("lm_deluge")
_registered: list[bool] = []
_loops: "weakref.WeakSet[asyncio.AbstractEventLoop]" = weakref.WeakSet()


def at_exit(method: Callable[[], Any]) -> None:
    """Have a bound method called when the interpreter ends, if its object is there still; the latest first."""
    if not _registered:
        _registered.append(True)
        atexit.register(_call_all)
    number = next(_numbers)
    _methods[number] = weakref.WeakMethod(method, lambda _: _methods.pop(number, None))


def used_on(loop: asyncio.AbstractEventLoop) -> None:
    """An event loop uses what is closed when the interpreter ends."""
    _loops.add(loop)


def is_in_use() -> bool:
    """Whether such a loop runs still, in a daemon thread: it goes on until the interpreter is gone."""
    return any(loop.is_running() for loop in list(_loops))


def close_when_dropped(owner: object, close: Callable[[], None]) -> None:
    """Have ``close`` called some time after ``owner`` was collected: by the next ``close_dropped``, or at the end."""
    weakref.finalize(owner, _dropped.append, close).atexit = False


def close_dropped() -> None:
    """Close what was dropped without being closed. Blocks."""
    while _dropped:
        try:
            close = _dropped.popleft()
        except IndexError:  # another thread was quicker
            return
        close()


def _call_all() -> None:
    calls = [reference for _, reference in sorted(_methods.items(), reverse=True)]
    patience = _INTERRUPTS
    while calls:
        method = calls[0]()
        try:
            if method is not None:
                method()
        except KeyboardInterrupt:  # what is left to do is soon done, and not to do it loses answers
            patience -= 1
            if not patience:
                raise
            continue
        except Exception:  # noqa: BLE001 - the others have to be called too
            _log.exception("something that had to be done at the end failed")
        calls.pop(0)
    close_dropped()
