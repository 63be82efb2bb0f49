"""Who is next of those that wait. Pure: time is an argument.

Those that read what the provider has in its cache go before those that write it, one of each prefix in turn: every read
keeps an entry alive, and every prefix that is written is one more to keep alive. So writers join the turns only while
these come round quickly, and else once in a while. Of each the first come is the first served.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["APART", "FairQueue"]

APART = b""
"""The group of those that have nothing to do with the cache. It gets its turns as a prefix does."""

# Seconds. The shortest lifetime that a provider has is 300.
_QUICK = 60.0  # a round of turns in which a writer has one
_SLOW = 150.0  # a round that no writer joins; else entries would end between two turns
_ONCE_IN_A_WHILE = 300.0  # between two writers where a round is neither quick nor slow

W = TypeVar("W")


class FairQueue(Generic[W]):
    """A queue of waiters of any kind.

    Args:
        is_gone: whether a waiter gave up meanwhile. One that did costs its group no turn.
    """

    def __init__(self, is_gone: Callable[[W], bool] = lambda _: False) -> None:
        self._is_gone = is_gone
        self._waiting: dict[bytes | None, deque[W]] = {}
        self._turns: deque[tuple[bytes | None, float]] = deque()  # who is next, and since when it has had no turn
        self._unwritten_since = 0.0  # since when no writer of those that wait has had a turn

    def push(self, waiter: W, group: bytes | None, now: float) -> None:
        """Join the queue.

        Args:
            waiter: who waits.
            group: the prefix that it reads, ``APART``, or None for one that writes a prefix.
            now: seconds on a clock that only goes forward.
        """
        waiting = self._waiting.get(group)
        if waiting is None:
            waiting = self._waiting[group] = deque()
            self._turns.append((group, now))
            if group is None:
                self._unwritten_since = now
        waiting.append(waiter)

    def pop(self, now: float) -> W | None:
        """Take out the next one; None if the queue is empty."""
        while self._turns:
            group, since = self._turns.popleft()
            if group is None:
                if self._turns and self._is_to_stand_back(now - since, now):
                    self._turns.append((None, now))
                    continue
                self._unwritten_since = now
            waiting = self._waiting[group]
            waiter = self._first_of(waiting)
            if waiting:
                self._turns.append((group, now))
            else:
                del self._waiting[group]
            if waiter is not None:
                return waiter
        return None

    def _is_to_stand_back(self, round_seconds: float, now: float) -> bool:
        """Whether another prefix would be one too many to keep alive."""
        since = now - self._unwritten_since
        return round_seconds > _SLOW or (round_seconds > _QUICK and since <= _ONCE_IN_A_WHILE)

    def _first_of(self, waiting: deque[W]) -> W | None:
        while waiting:
            waiter = waiting.popleft()
            if not self._is_gone(waiter):
                return waiter
        return None
