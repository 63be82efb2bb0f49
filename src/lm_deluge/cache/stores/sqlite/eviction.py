"""Eviction keeps a file below a size. The least recently used entries go first, a few at a time, so puts stay short."""

import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager

from lm_deluge.cache.stores.sqlite.file import read_pragma
from lm_deluge.cache.stores.sqlite.rows import remove, remove_quarantined

__all__ = ["evict", "shrink", "used_bytes"]

_AT_ONCE = 64
_ROOM = 0.05  # additional free room, so that not every put has to evict
_KEPT_PAGES = 64
_PAGES_AT_ONCE = 256
_ROW_BYTES = 200  # of an entry, beside its value and its request

# Made at the first eviction, so a file without a limit does not have it.
_ORDER = "CREATE INDEX IF NOT EXISTS entries_by_use ON entries (coalesce(used, created))"

Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]
"""Begins a transaction, which is committed when the context ends."""


def used_bytes(connection: sqlite3.Connection) -> int:
    """Size of the file without its free pages."""
    pages = read_pragma(connection, "page_count") - read_pragma(connection, "freelist_count")
    return pages * read_pragma(connection, "page_size")


def shrink(transaction: Transaction) -> None:
    """Return free pages to the disk, in several transactions. A few are kept for new entries."""
    before = 0
    while True:
        with transaction() as writer:
            free = read_pragma(writer, "freelist_count")
            if free == before or free <= _KEPT_PAGES + read_pragma(writer, "page_count") * _ROOM:
                return  # few enough; or their number does not fall, in a file with other settings
            for _ in range(_PAGES_AT_ONCE):
                writer.execute("PRAGMA incremental_vacuum(1)")
            before = free


def evict(transaction: Transaction, most: int, new: Sequence[bytes]) -> None:
    """Remove entries until a file is a little smaller than it may be, in several transactions.

    Args:
        transaction: for each of them.
        most: the size that the file may have, in bytes.
        new: keys of the entries just stored. They stay, unless the file would be too large with nothing but them; the
            last one stays, unless it is too large alone.
    """
    spared = set(new)
    while True:
        with transaction() as writer:
            used = used_bytes(writer)
            excess = used - int(most * (1 - _ROOM))
            if excess <= 0:
                return
            writer.execute(_ORDER)
            if _evict_some(writer, excess, spared):
                continue
        if used <= most or not spared:
            return
        spared = set(new[-1:]) if len(spared) > 1 else set()


def _evict_some(writer: sqlite3.Connection, excess: int, spared: Collection[bytes]) -> int:
    """Remove a few of the least recently used entries, and older quarantined ones; how many."""
    keys: list[bytes] = []
    horizon = float("inf")
    cursor = writer.execute(
        "SELECT key, length(response) + length(request), coalesce(used, created) FROM entries "
        "ORDER BY coalesce(used, created)"
    )
    for key, size, last_used in cursor:
        if key in spared:
            continue
        keys.append(key)
        horizon = last_used
        excess -= (size or 0) + _ROW_BYTES
        if excess <= 0 or len(keys) == _AT_ONCE:
            break
    cursor.close()
    rows = writer.execute("SELECT rowid FROM set_aside WHERE at < ? LIMIT ?", (horizon, _AT_ONCE)).fetchall()
    before = writer.total_changes
    remove(writer, keys)
    remove_quarantined(writer, [rowid for (rowid,) in rows])
    return writer.total_changes - before  # the real number: in a hostile file a key may not find its row
