"""A clock that a test drives: time stands still until ``advance`` moves it."""

import asyncio
import heapq
import itertools
import threading

from lm_deluge._locks import renewed

__all__ = ["FakeClock", "wake"]


class FakeClock:
    """A `Clock` whose time moves only through ``advance``, so that no test waits for real time.

    One clock serves several threads and event loops at once: a server in a background thread may sleep on it while the
    test advances it from its own.

    Args:
        now: the first reading of ``time()``, in seconds since the epoch. ``monotonic()`` starts at 0.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._epoch = now
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._changed = renewed(threading.Condition())

    def monotonic(self) -> float:
        return self._elapsed

    def time(self) -> float:
        return self._epoch + self._elapsed

    @property
    def sleeping(self) -> int:
        """How many calls of ``sleep`` have not returned yet."""
        with self._changed:
            return len(self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Return once ``advance`` has moved the clock by ``seconds``; at once for zero or less."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._changed:
            entry = (self._elapsed + seconds, next(self._order), loop, future)
            heapq.heappush(self._sleepers, entry)
            self._changed.notify_all()
        try:
            await future
        finally:
            with self._changed:
                if entry in self._sleepers:  # cancelled before its time
                    self._sleepers.remove(entry)
                    heapq.heapify(self._sleepers)

    def advance(self, seconds: float) -> None:
        """Move time forward and wake the sleepers that are due, earliest first.

        A sleeper that sleeps again while it is woken sleeps from the *new* time on.
        """
        if seconds < 0:
            raise ValueError(f"time does not go backwards: advance({seconds})")
        with self._changed:
            self._elapsed += seconds
            due = []
            while self._sleepers and self._sleepers[0][0] <= self._elapsed:
                due.append(heapq.heappop(self._sleepers))
        for _, _, loop, future in due:
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake, future)

    def advance_to_next(self) -> bool:
        """Move time on to when the next sleeper wakes. Returns whether there is one."""
        with self._changed:
            seconds = self._sleepers[0][0] - self._elapsed if self._sleepers else None
        if seconds is None:
            return False
        self.advance(max(0.0, seconds))
        return True

    def wait_for_sleepers(self, count: int = 1, *, timeout: float = 5.0) -> None:
        """Block this thread until ``count`` calls sleep on the clock (they run in another thread).

        Raises:
            TimeoutError: fewer did within ``timeout`` real seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._sleepers) >= count, timeout):
                raise TimeoutError(f"{len(self._sleepers)} of {count} sleepers after {timeout} s")


def wake(future: asyncio.Future[None]) -> None:
    """Let the one go on that waits, if it waits still."""
    if not future.done():
        future.set_result(None)
