"""The limits of an exchange with a Redis server: how long it may take, and how much of its reply is read.

redis-py has a timeout for each ``recv`` and takes any size that is announced. An exchange has one deadline and one
budget, from the first byte sent to the last one read; ``wire`` keeps them.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

from lm_deluge.cache.entry import Entry

__all__ = ["AT_ONCE", "Exchange", "current_exchange", "exchange", "pieces"]

AT_ONCE = 500
"""Keys or entries in one exchange at most."""

_BYTES_AT_ONCE = 8 * 1024 * 1024
_SECONDS = 10.0
_BYTES = 256 * 1024 * 1024
_ELEMENTS = 1_000_000
_SHORTEST = 0.001  # 0 would mean that the socket does not wait at all


class Exchange:
    """The rest of the limits.

    Attributes:
        end: when it is over, on the monotonic clock.
        bytes: how many may still be read.
        elements: how many elements of arrays may still come.
    """

    __slots__ = ("bytes", "elements", "end")

    def __init__(self, end: float) -> None:
        self.end = end
        self.bytes = _BYTES
        self.elements = _ELEMENTS

    @property
    def seconds(self) -> float:
        """How long to wait for the next byte. Never 0 or less."""
        return max(self.end - time.monotonic(), _SHORTEST)


_current: ContextVar[Exchange | None] = ContextVar("lm_deluge_redis_exchange", default=None)


@contextlib.contextmanager
def exchange() -> Iterator[None]:
    """Limit all calls in the block. A nested exchange ends with the outer one, and has a budget of its own."""
    outer = _current.get()
    end = time.monotonic() + _SECONDS
    token = _current.set(Exchange(end if outer is None else min(end, outer.end)))
    try:
        yield
    finally:
        _current.reset(token)


def current_exchange() -> Exchange:
    """The limits of the current exchange."""
    return _current.get() or Exchange(time.monotonic() + _SECONDS)


def pieces(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Entries in pieces that can be sent in the time of one exchange."""
    some: list[Entry] = []
    size = 0
    for entry in entries:
        if some and (size + entry.size > _BYTES_AT_ONCE or len(some) == AT_ONCE):
            yield some
            some, size = [], 0
        some.append(entry)
        size += entry.size
    if some:
        yield some
