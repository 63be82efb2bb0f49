"""Keys and entries in pieces. A server runs one command at a time, so none may take long."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from lm_deluge.cache.entry import Entry

__all__ = ["KEYS_AT_ONCE", "in_pieces", "pieces_of"]

T = TypeVar("T")

KEYS_AT_ONCE = 500
_BYTES_AT_ONCE = 8 * 1024 * 1024  # and an exchange has an end


def in_pieces(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Pieces of at most as many items as one command may have."""
    for start in range(0, len(items), KEYS_AT_ONCE):
        yield items[start : start + KEYS_AT_ONCE]


def pieces_of(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Entries in pieces that can be sent in the time of one exchange."""
    some: list[Entry] = []
    size = 0
    for entry in entries:
        own = len(entry.value) + len(entry.request) + sum(len(blob.data) for blob in entry.blobs.values())
        if some and (size + own > _BYTES_AT_ONCE or len(some) == KEYS_AT_ONCE):
            yield some
            some, size = [], 0
        some.append(entry)
        size += own
    if some:
        yield some
