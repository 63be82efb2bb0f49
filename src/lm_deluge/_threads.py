"""Threads of our own for work that blocks.

The default executor of an event loop belongs to the program, which may fill it with work of its own. And every executor
of ``concurrent.futures`` refuses work once the main thread has ended, although other threads may still be in the middle
of a run. These threads do neither. They are daemons: what has to be done before the interpreter ends is a ``Writer``'s.
"""

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from lm_deluge._per_process import PerProcess

__all__ = ["Threads", "carried", "in_thread", "start_daemon"]

T = TypeVar("T")

_IDLE_SECONDS = 5.0


def start_daemon(name: str, function: Callable[..., None], *arguments: Any) -> None:
    """Start a thread.

    Raises:
        RuntimeError: none can be started: there are too many, or the interpreter ends. Python itself would wait for a
            thread that never runs, where a coroutine is closed by the interpreter's last collection.
    """
    if sys.is_finalizing():
        raise RuntimeError("no thread can be started while the interpreter ends")
    threading.Thread(target=function, args=arguments, name=name, daemon=True).start()


class _Pool:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self.threads = 0
        self.idle = 0


class Threads:
    """A few threads that start when they are needed and end when they are not.

    Args:
        most: how many at once.
        name: what they are called.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._pool = PerProcess(_Pool)

    def submit(self, function: Callable[[], T]) -> "Future[T]":
        """Have a thread call ``function``, in the order of submission."""
        future: Future[T] = Future()
        pool = self._pool.get()
        with pool.changed:
            pool.waiting.append((function, future))
            if len(pool.waiting) > pool.idle and pool.threads < self._most:
                try:
                    start_daemon(self._name, _work, pool)
                    pool.threads += 1
                except RuntimeError:
                    if not pool.threads:  # nobody would ever call it
                        pool.waiting.pop()
                        raise
            pool.changed.notify()
        return future

    async def run(self, function: Callable[[], T]) -> T:
        """What ``function`` returns or raises, in a thread. Cancelling takes it back if it has not begun."""
        return await asyncio.wrap_future(self.submit(function))


_shared = Threads(4, "lm_deluge worker")


async def in_thread(function: Callable[[], T]) -> T:
    """What ``function`` returns or raises, in a thread that all of this package shares."""
    return await _shared.run(function)


def carried(error: BaseException) -> Exception:
    """An error as another thread can be given it.

    ``StopIteration`` would leave a future pending, and what is no ``Exception`` (``SystemExit``, the panic of native
    code, a cancellation that is none of ours) would end whatever waits for it rather than tell it.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    replacement = RuntimeError(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    replacement.__cause__ = error
    return replacement


def _work(pool: _Pool) -> None:
    while True:
        with pool.changed:
            pool.idle += 1
            found = pool.changed.wait_for(lambda: bool(pool.waiting), _IDLE_SECONDS)
            pool.idle -= 1
            if not found:
                pool.threads -= 1
                return
            function, future = pool.waiting.popleft()
        if future.set_running_or_notify_cancel():
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                future.set_exception(carried(error))
            else:
                future.set_result(result)
        del function, future  # an idle thread keeps nothing alive
