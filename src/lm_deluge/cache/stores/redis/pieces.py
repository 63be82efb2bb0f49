"""Entries in pieces. A server runs one command at a time, so none may take long."""

from collections.abc import Iterator, Sequence

from lm_deluge.cache.entry import Entry

__all__ = ["KEYS_AT_ONCE", "pieces_of"]

KEYS_AT_ONCE = 500
"""How many one command may have."""

_BYTES_AT_ONCE = 8 * 1024 * 1024  # and an exchange has an end


def pieces_of(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Entries in pieces that can be sent in the time of one exchange."""
    some: list[Entry] = []
    size = 0
    for entry in entries:
        if some and (size + entry.size > _BYTES_AT_ONCE or len(some) == KEYS_AT_ONCE):
            yield some
            some, size = [], 0
        some.append(entry)
        size += entry.size
    if some:
        yield some
