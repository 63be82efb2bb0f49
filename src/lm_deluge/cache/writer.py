"""Writing in the background, many items at a time: while one commit runs, the next items gather behind it.

Each writer has one thread. It starts with the first item and ends after a moment without work, so an idle cache has no
thread, and a forked child starts its own. Nothing here needs an event loop: what was accepted is written, and its
submitter is told, even if the loop that it came from has ended.
"""

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, TypeVar

from lm_deluge import _overdue as overdue
from lm_deluge._exit import at_exit
from lm_deluge._per_process import PerProcess
from lm_deluge._threads import carried, start_daemon
from lm_deluge.errors import CacheError, CacheFileError

__all__ = ["Write", "Writer", "written"]

T = TypeVar("T")

_log = logging.getLogger("lm_deluge")

_IDLE_SECONDS = 2.0
_MOST = 1024
_GATHER_SECONDS = 0.003
_PATIENCE = 120.0  # for one batch, at exit: a writer that is blocked for longer is given up


class Write:
    """One item to be written. Awaiting it returns when the item is safe, or raises the reason why it is not.

    Attributes:
        key: what the item is found by while it is in flight; None if it is not.
        group: what it is found by as well, together with its like; None for nothing.
        is_done: whether it is over.
        failure: why the item could not be written.
    """

    __slots__ = ("_callbacks", "_finished", "failure", "group", "is_done", "key")

    def __init__(self, key: bytes | None = None, group: bytes | None = None) -> None:
        self.key = key
        self.group = group
        self.is_done = False
        self.failure: Exception | None = None
        # Both are only appended to and popped from, which is atomic. So no lock is needed for each item.
        self._callbacks: deque[Callable[[Write], None]] = deque()
        self._finished: deque[asyncio.Future[None]] = deque()

    def when_done(self, callback: Callable[["Write"], None]) -> None:
        """Call ``callback`` once: in the writer's thread, or now if the write is over already."""
        self._callbacks.append(callback)
        if self.is_done:
            self._tell()

    def finish(self, failure: Exception | None) -> "deque[asyncio.Future[None]]":
        """The write is over. Returns the futures that await it, to be resolved on their event loops."""
        self.failure = failure
        self.is_done = True
        self._tell()
        return self._finished

    def __await__(self) -> Generator[Any, None, None]:
        if not self.is_done:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._finished.append(future)
            if self.is_done:  # meanwhile; the one that pops the future resolves it
                _wake(_popped(self._finished))
            yield from future
        if self.failure is not None:
            raise self.failure

    async def over(self) -> None:
        """Return when it is over, well or not."""
        with contextlib.suppress(Exception):
            await self

    def _tell(self) -> None:
        for callback in _popped(self._callbacks):
            try:
                callback(self)
            except BaseException:  # noqa: BLE001 - the other items' callers are told all the same
                _log.exception("what should have followed a write failed")


def written(key: bytes) -> Write:
    """A write that has gone well already."""
    write = Write(key)
    write.finish(None)
    return write


class _Queue(Generic[T]):
    def __init__(self) -> None:
        self.waiting: deque[tuple[T, Write]] = deque()
        self.in_flight: dict[bytes, Write] = {}
        self.changed = threading.Condition()
        self.running = False  # there is a thread that will see what is waiting
        self.writing = False  # the thread gathers or writes a batch, and will look at ``waiting`` after it
        self.accepted = 0
        self.finished = 0
        self.closed: str | None = None


class Writer(Generic[T]):
    """Gathers items from any thread and hands them to ``write`` in one thread, in order.

    Items that were accepted are written, at the latest when the interpreter exits.

    Args:
        write: called with one or more items; when it returns they are safe, but for those for which it returns a
            failure. If it raises for several, each is tried by itself, so one bad item fails alone; but a
            ``CacheFileError`` is about the store, and all fail with it.
        idle_seconds: how long the thread waits for more before it ends.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], Sequence[BaseException | None] | None],
        *,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        self._write = write
        self._idle_seconds = idle_seconds
        self._queue: PerProcess[_Queue[T]] = PerProcess(_Queue)
        # The thread is a daemon, so an idle one does not delay the exit; one with work does. It refers to the writer,
        # so a writer that is collected has nothing left to write.
        at_exit(self.flush)

    def submit(self, item: T, *, key: bytes | None = None, group: bytes | None = None) -> Write:
        """Accept ``item``, which will be written in every case from now on. Never waits.

        Args:
            item: what is written.
            key: by which it is found while it is in flight.
            group: by which the latest of several is found as well.

        Raises:
            CacheError: the writer is closed.
            RuntimeError: no thread can be started.
        """
        write = Write(key, group)
        if sys.is_finalizing():
            write.finish(self._try([item])[0])  # now, because no thread can be started any more
            return write
        queue = self._queue.get()
        with queue.changed:
            if queue.closed is not None:
                raise CacheError(queue.closed)
            if not queue.running:
                # It waits for the lock that is held here. If it cannot start, nothing has been promised yet.
                start_daemon("lm_deluge cache writer", self._work, queue)
                queue.running = True
            queue.waiting.append((item, write))
            queue.accepted += 1
            if key is not None:
                queue.in_flight[key] = write
            if group is not None:
                queue.in_flight[group] = write
            if not queue.writing:
                queue.changed.notify_all()
        return write

    def in_flight(self, key: bytes) -> Write | None:
        """The latest write in flight of an item with this key, or of this group, if there is one."""
        return self._queue.get().in_flight.get(key)

    @property
    def is_idle(self) -> bool:
        """Whether no item with a key is in flight."""
        return not self._queue.get().in_flight

    def wait(self, write: Write, *, seconds: float) -> None:
        """Return once it is over, or after a time. Blocks."""
        queue = self._queue.get()
        with queue.changed:
            queue.changed.wait_for(lambda: write.is_done, seconds)

    def flush(self) -> None:
        """Return once everything that was accepted so far is written or has failed. Blocks."""
        _flush(self._queue)

    def close(self, reason: str) -> None:
        """``flush``, and refuse what comes later with a ``CacheError`` that gives the reason.

        What is submitted until everything is written is accepted still.
        """
        queue = self._queue.get()
        is_flushed = True
        while is_flushed:
            is_flushed = _flush(self._queue)
            with queue.changed:
                if queue.finished == queue.accepted or not is_flushed:
                    queue.closed = queue.closed or reason
                    return

    def _work(self, queue: _Queue[T]) -> None:
        finished = float("-inf")
        while True:
            with queue.changed:
                if not queue.changed.wait_for(lambda: bool(queue.waiting), self._idle_seconds):
                    queue.running = False
                    return
                if time.monotonic() - finished < _GATHER_SECONDS:
                    # Items arrive quickly. Waiting a few milliseconds for more of them costs little, while each
                    # commit takes the interpreter away from the event loop several times.
                    queue.writing = True
                    queue.changed.wait(_GATHER_SECONDS)
                batch = [queue.waiting.popleft() for _ in range(min(len(queue.waiting), _MOST))]
                queue.writing = True
            failures = self._try([item for item, _ in batch])
            waiters: list[asyncio.Future[None]] = []
            for (_, write), failure in zip(batch, failures, strict=True):
                for name in (write.key, write.group):
                    if name is not None and queue.in_flight.get(name) is write:
                        del queue.in_flight[name]
                waiters += _popped(write.finish(failure))
            with queue.changed:
                queue.writing = False
                queue.finished += len(batch)
                queue.changed.notify_all()
            finished = time.monotonic()
            _wake(waiters)

    def _try(self, items: Sequence[T]) -> list[Exception | None]:
        """Write items; each has its own outcome, and the thread goes on."""
        try:
            outcomes = self._write(items)
        except CacheFileError as error:
            return [error] * len(items)
        except BaseException as error:  # noqa: BLE001 - it is handed to the caller that waits for the item
            return [carried(error)] if len(items) == 1 else [self._try([item])[0] for item in items]
        if outcomes is None:
            return [None] * len(items)
        return [None if outcome is None else carried(outcome) for outcome in outcomes]


def _flush(held: PerProcess[_Queue[Any]]) -> bool:
    """Whether what was accepted so far is written, or has failed."""
    if not held.is_own:
        return True  # what waits there is the parent's to write
    overdue.flush()
    queue = held.get()
    with queue.changed:
        wanted = queue.accepted
        while (seen := queue.finished) < wanted:
            # A store that hangs is not waited for without end.
            if not queue.changed.wait_for(lambda seen=seen: queue.finished > seen, _PATIENCE):  # type: ignore[misc]
                _log.error("a cache wrote nothing for %d s; %d items are given up", _PATIENCE, wanted - seen)
                return False
    return True


def _popped(queue: "deque[T]") -> list[T]:
    """All that is in a queue. Each element goes to one caller alone, in any thread."""
    found: list[T] = []
    while True:
        try:
            found.append(queue.popleft())
        except IndexError:
            return found


def _wake(waiters: "Sequence[asyncio.Future[None]]") -> None:
    """Tell each event loop once about all of its futures."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for future in waiters:
        by_loop.setdefault(future.get_loop(), []).append(future)
    for loop, own in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, own)
        except RuntimeError:
            continue  # the loop is closed, so no caller waits; the items are written all the same


def _resolve(waiters: "Sequence[asyncio.Future[None]]") -> None:
    for future in waiters:
        if not future.done():  # its waiter was cancelled
            future.set_result(None)
