"""Writing in the background, many at a time: while one commit runs, the next batch gathers behind it.

One thread belongs to each batcher. It starts with the first item and ends when there has been nothing to do for a
moment, so an idle cache holds no thread and a forked child is not left without one.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from lm_deluge.cache._per_process import PerProcess

__all__ = ["Batcher"]

T = TypeVar("T")

_IDLE_SECONDS = 2.0
_MOST = 1024


class _Queue(Generic[T]):
    def __init__(self) -> None:
        self.waiting: deque[tuple[T, asyncio.Future[None]]] = deque()
        self.changed = threading.Condition()
        self.running = False


class Batcher(Generic[T]):
    """Gathers items from any event loop and hands them to ``write`` in one thread, in order.

    Args:
        write: called with one or more items; when it returns they are safe. If it raises for several, each is tried
            by itself, so one bad item fails alone.
    """

    def __init__(self, write: Callable[[Sequence[T]], None]) -> None:
        self._write = write
        self._queue: PerProcess[_Queue[T]] = PerProcess(_Queue)

    async def put(self, item: T) -> None:
        """Return once ``item`` is written.

        Cancelling does not take it back: it is written all the same.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._queue.get()
        with queue.changed:
            queue.waiting.append((item, future))
            if queue.running:
                queue.changed.notify()
            else:
                queue.running = True
                threading.Thread(target=self._work, args=(queue,), name="lm_deluge cache writer", daemon=True).start()
        await future

    def _work(self, queue: _Queue[T]) -> None:
        while True:
            with queue.changed:
                if not queue.changed.wait_for(lambda: bool(queue.waiting), _IDLE_SECONDS):
                    queue.running = False
                    return
                batch = [queue.waiting.popleft() for _ in range(min(len(queue.waiting), _MOST))]
            failures = self._try([item for item, _ in batch])
            _settle([(future, failure) for (_, future), failure in zip(batch, failures, strict=True)])

    def _try(self, items: Sequence[T]) -> list[Exception | None]:
        try:
            self._write(items)
        except Exception as error:  # noqa: BLE001 - it is handed to whoever waits for the item
            return [error] if len(items) == 1 else [self._try([item])[0] for item in items]
        return [None] * len(items)


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
            future.set_exception(failure)
