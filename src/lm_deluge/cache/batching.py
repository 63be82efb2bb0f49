"""Writing in the background, many at a time: while one commit runs, the next batch gathers behind it.

One thread belongs to each batcher. It starts with the first item and ends when there has been nothing to do for a
moment, so an idle cache holds no thread and a forked child is not left without one.
"""

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from lm_deluge.cache._per_process import PerProcess
from lm_deluge.errors import CacheFileError

__all__ = ["Batcher"]

T = TypeVar("T")

_IDLE_SECONDS = 2.0
_MOST = 1024
_GATHER_SECONDS = 0.003


class _Queue(Generic[T]):
    def __init__(self) -> None:
        self.waiting: deque[tuple[T, asyncio.Future[None]]] = deque()
        self.changed = threading.Condition()
        self.running = False  # there is a thread that will see what is waiting
        self.writing = False  # the thread gathers or writes a batch, and will look at ``waiting`` after it


class Batcher(Generic[T]):
    """Gathers items from any event loop and hands them to ``write`` in one thread, in order.

    Items that were accepted are written even if their waiters are cancelled or their event loop is closed, at the
    latest when the interpreter exits.

    Args:
        write: called with one or more items; when it returns they are safe. If it raises for several, each is tried
            by itself, so one bad item fails alone; but a ``CacheFileError`` is about the store, and all fail with it.
        idle_seconds: how long the thread waits for more before it ends.
    """

    def __init__(self, write: Callable[[Sequence[T]], None], *, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._write = write
        self._idle_seconds = idle_seconds
        self._queue: PerProcess[_Queue[T]] = PerProcess(_Queue)
        # The thread is a daemon so that waiting for more does not delay the exit; what it still has to write does.
        weakref.finalize(self, _finish, self._queue)

    async def put(self, item: T) -> None:
        """Return once ``item`` is written.

        Cancelling does not take it back: it is written all the same.
        """
        await self.submit(item)

    def submit(self, item: T) -> "asyncio.Future[None]":
        """Accept ``item``, which will be written from now on whatever happens; the future is done when it is."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._queue.get()
        with queue.changed:
            if not queue.running:
                # It waits for the lock that is held here. If it cannot start, nothing has been promised yet.
                threading.Thread(target=self._work, args=(queue,), name="lm_deluge cache writer", daemon=True).start()
                queue.running = True
            queue.waiting.append((item, future))
            if not queue.writing:
                queue.changed.notify_all()
        return future

    def flush(self) -> None:
        """Return once everything that was accepted so far is written or has failed. Blocks."""
        _finish(self._queue)

    def _work(self, queue: _Queue[T]) -> None:
        finished = float("-inf")
        while True:
            with queue.changed:
                if not queue.changed.wait_for(lambda: bool(queue.waiting), self._idle_seconds):
                    queue.running = False
                    return
                if time.monotonic() - finished < _GATHER_SECONDS:
                    # Items come one upon another. A few milliseconds for more of them cost nobody much, while each
                    # commit takes the interpreter away from the event loop several times.
                    queue.writing = True
                    queue.changed.wait(_GATHER_SECONDS)
                batch = [queue.waiting.popleft() for _ in range(min(len(queue.waiting), _MOST))]
                queue.writing = True
            failures = self._try([item for item, _ in batch])
            with queue.changed:
                queue.writing = False
                queue.changed.notify_all()
            finished = time.monotonic()
            _settle([(future, failure) for (_, future), failure in zip(batch, failures, strict=True)])

    def _try(self, items: Sequence[T]) -> list[Exception | None]:
        try:
            self._write(items)
        except CacheFileError as error:
            return [error] * len(items)
        except Exception as error:  # noqa: BLE001 - it is handed to whoever waits for the item
            return [error] if len(items) == 1 else [self._try([item])[0] for item in items]
        return [None] * len(items)


def _finish(held: PerProcess[_Queue[T]]) -> None:
    if not held.is_own:
        return  # what waits there is the parent's to write
    queue = held.get()
    with queue.changed:
        queue.changed.wait_for(lambda: not queue.waiting and not queue.writing)


_Settled = tuple["asyncio.Future[None]", Exception | None]


def _settle(outcomes: Sequence[_Settled]) -> None:
    """Tell each event loop once about all of its futures."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Settled]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].get_loop(), []).append(outcome)
    for loop, own in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, own)
        except RuntimeError:
            continue  # the loop is closed, so nobody waits; the items are written all the same


def _resolve(outcomes: Sequence[_Settled]) -> None:
    for future, failure in outcomes:
        if future.done():
            continue  # its waiter was cancelled
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(_carried(failure))


def _carried(failure: Exception) -> Exception:
    """The failure as a future can carry it: every exception but ``StopIteration``, which would leave it pending."""
    if not isinstance(failure, StopIteration):
        return failure
    carried = RuntimeError("the cache raised StopIteration")
    carried.__cause__ = failure
    return carried
