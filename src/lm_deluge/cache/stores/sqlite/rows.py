"""Entries as rows. Each write keeps the counts of references right: a blob is removed with the last of them.

Everything here takes a connection and, where it writes, expects a transaction.
"""

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from lm_deluge.cache.codec import compress
from lm_deluge.cache.entry import Blob, Entry, Facts, Quarantined, Stored
from lm_deluge.cache.stores.sqlite.connection import MOST_CELL_BYTES
from lm_deluge.cache.stores.sqlite.schema import names_in
from lm_deluge.cache.stores.sqlite.walk import execute_all, placeholders, select_all, select_by_key

__all__ = [
    "COLUMNS",
    "QUARANTINED",
    "delete_quarantined",
    "due_touches",
    "hide",
    "missing_blobs",
    "note_quarantined",
    "put",
    "quarantine",
    "quarantined",
    "remove",
    "remove_quarantined",
    "stored",
    "touch",
]

COLUMNS = (
    "key, namespace, created, asked, model, finish_reason, input_tokens, output_tokens, cache_read_tokens, "
    "cache_write_tokens, cost, run, expires, used, response, request"
)
"""The columns of an entry, as ``stored`` takes them."""

QUARANTINED = "key, at, reason, response, request"
"""The columns of what was quarantined, as ``quarantined`` takes them, which begins with the rowid."""

_WRITTEN = f"{COLUMNS}, refers"

# sqlite3 releases the GIL for each step of a statement, and with a busy event loop it can take five milliseconds to get
# it back. So one statement takes many rows; a few sizes serve every batch.
_ROWS_AT_ONCE = (64, 8, 1)


# In a hostile file, a cell may be longer than a connection reads, and every statement that reads it would fail.
_REFERS = f"CASE WHEN typeof(refers) = 'blob' AND length(refers) <= {4 * 1024 * 1024} THEN refers END"
_MOST_NOTED = 1024 * 1024
_MOST_TEXT = 64 * 1024  # of a name or a reason; a longer one is damage


def stored(row: Sequence[Any]) -> Stored:
    """An entry from its columns. Cells of another type, which only a damaged file has, count as missing."""
    key, namespace, created, asked, model, finish_reason, *tokens, cost, run, expires, used, response, request = row
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens = map(_integer, tokens)
    return Stored(
        key=_bytes(key),
        namespace=_text(namespace) or "",
        value=_bytes(response),
        request=_bytes(request),
        facts=Facts(
            created=_number(created) or 0.0,
            asked=_text(asked),
            model=_text(model),
            finish_reason=_text(finish_reason),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cache_read_tokens,
            cache_write_tokens=cache_write_tokens,
            cost=_number(cost),
            run=_integer(run) or 0,
        ),
        expires=_number(expires),
        used=_number(used),
    )


def quarantined(row: Sequence[Any]) -> Quarantined:
    """A quarantined entry, from its row."""
    _, key, at, reason, response, request = row
    return Quarantined(
        key=_bytes(key),
        when=_number(at) or 0.0,
        reason=_text(reason) or "",
        value=_bytes(response),
        request=_bytes(request),
    )


def missing_blobs(connection: sqlite3.Connection, blobs: Mapping[bytes, Blob]) -> dict[bytes, Blob]:
    """Those of some blobs that the file does not have."""
    if not blobs:
        return {}
    had = {digest for (digest,) in select_all(connection, "SELECT digest FROM blobs WHERE digest IN", list(blobs))}
    return {digest: blob for digest, blob in blobs.items() if digest not in had}


def put(writer: sqlite3.Connection, entries: Collection[Entry], packed: Mapping[bytes, bytes]) -> None:
    """Store entries with different keys, and their blobs. Blobs that only replaced entries referred to are removed.

    Args:
        writer: in a transaction.
        entries: with different keys.
        packed: blobs that are compressed already, by their digests. Others are compressed here.
    """
    replaced = list(_names(writer, "entries", "key", [one.key for one in entries]))
    # Not an UPDATE: the row would keep its number, and rows are in the order of storing.
    _insert(writer, f"INSERT OR REPLACE INTO entries ({_WRITTEN})", [_row(entry) for entry in entries])
    missing = missing_blobs(writer, {digest: blob for entry in entries for digest, blob in entry.blobs.items()})
    _insert(
        writer,
        "INSERT INTO blobs (digest, refers, data)",
        [
            (digest, b"".join(blob.refers) or None, packed.get(digest) or compress(blob.data))
            for digest, blob in missing.items()
        ],
    )
    changes = Counter(chain.from_iterable(one.refers for one in chain[Entry | Blob](entries, missing.values())))
    changes.subtract(replaced)
    _count(writer, changes)


def remove(writer: sqlite3.Connection, keys: Sequence[bytes]) -> int:
    """Remove entries with different keys, and blobs that are no longer referred to; how many entries there were."""
    return _remove(writer, "entries", "key", keys)


def quarantine(writer: sqlite3.Connection, key: bytes, value: object, reason: str, now: float) -> bool:
    """Move an entry to the table ``set_aside`` if it still has the value; whether it had. Its blobs are kept."""
    moved = 0
    if not value:  # it may be too long to be read, and then only its length is kept
        moved = writer.execute(
            "INSERT INTO set_aside (key, at, reason, refers) "  # noqa: S608
            f"SELECT key, ?1, ?2 || ': it has ' || length(response) || ' bytes', {_REFERS} FROM entries "
            "WHERE key = ?3 AND typeof(response) = 'blob' AND length(response) > ?4",
            (now, reason, key, MOST_CELL_BYTES),
        ).rowcount
    if not moved:
        # Another process may have stored a good one meanwhile.
        moved = writer.execute(
            "INSERT INTO set_aside (key, at, reason, refers, response, request) "
            # A cell that damage turned into text is read as bytes.
            "SELECT key, ?1, ?2, refers, response, request FROM entries "
            "WHERE key = ?3 AND (response IS ?4 OR typeof(response) = 'text' AND CAST(response AS BLOB) IS ?4)",
            (now, reason, key, value),
        ).rowcount
    if moved:
        writer.execute("DELETE FROM entries WHERE key = ?", (key,))
    return moved > 0


def remove_quarantined(writer: sqlite3.Connection, rowids: Sequence[int]) -> int:
    """Remove what was quarantined, and blobs that are no longer referred to; how much there was."""
    return _remove(writer, "set_aside", "rowid", rowids)


def delete_quarantined(writer: sqlite3.Connection, keys: Sequence[bytes]) -> int:
    """Remove what was quarantined under some keys, and the blobs that are no longer referred to; how much there was."""
    rowids = [rowid for (rowid,) in select_all(writer, "SELECT rowid FROM set_aside WHERE key IN", keys)]
    return remove_quarantined(writer, rowids)


def hide(writer: sqlite3.Connection, keys: Iterable[bytes]) -> None:
    """Note that entries of a base are not to be served."""
    writer.executemany("INSERT OR IGNORE INTO hidden (key) VALUES (?)", ((key,) for key in keys))


def note_quarantined(writer: sqlite3.Connection, entries: Iterable[Stored], reason: str, now: float) -> None:
    """Note quarantined entries of a base, and why. Of large cells, the length and the SHA-256 are noted."""
    writer.executemany(
        "INSERT INTO set_aside (key, at, reason, response, request) VALUES (?, ?, ?, ?, ?)",
        (_noted(entry, reason, now) for entry in entries),
    )


def _noted(entry: Stored, reason: str, now: float) -> tuple[Any, ...]:
    kept = []
    for name, cell in (("answer", entry.value), ("request", entry.request)):
        if len(cell) > _MOST_NOTED:
            reason += (
                f"; its {name}, {len(cell):,} bytes with SHA-256 {hashlib.sha256(cell).hexdigest()}, is in the base"
            )
            cell = b""
        kept.append(cell)
    return entry.key, now, reason, *kept


def due_touches(
    reader: sqlite3.Connection, used: Sequence[tuple[bytes, float]], within: float
) -> list[tuple[bytes, float]]:
    """Those uses of entries that ``touch`` would write."""
    select = "SELECT key, coalesce(used, created) FROM entries WHERE key IN"
    found, _ = select_by_key(reader, select, [key for key, _ in used])
    known = {key: _number(last) for key, last in found}
    return [(key, when) for key, when in used if (last := known.get(key)) is not None and last < when - within]


def touch(writer: sqlite3.Connection, used: Collection[tuple[bytes, float]], within: float = 0.0) -> None:
    """Note when entries were last used. Those that are gone are left out.

    Args:
        writer: in a transaction.
        used: keys, and seconds since the Unix epoch.
        within: seconds by which a use has to be later than the one that is noted, or than the storing.
    """
    writer.executemany(
        "UPDATE entries SET used = ?2 WHERE key = ?1 AND coalesce(used, created) < ?2 - ?3",
        [(key, when, within) for key, when in used],
    )


def _remove(writer: sqlite3.Connection, table: str, column: str, keys: Sequence[bytes | int]) -> int:
    names = Counter(_names(writer, table, column, keys))
    removed = execute_all(writer, f"DELETE FROM {table} WHERE {column} IN", keys)  # noqa: S608
    _count(writer, {name: -count for name, count in names.items()})
    return removed


def _count(writer: sqlite3.Connection, changes: Mapping[bytes, int]) -> None:
    """Change counts of references. Blobs without references are removed, and then those that only they referred to."""
    while changed := [(digest, change) for digest, change in changes.items() if change]:
        _insert(
            writer,
            "INSERT INTO holders (digest, count)",
            changed,
            "ON CONFLICT (digest) DO UPDATE SET count = count + excluded.count",
        )
        fewer = [digest for digest, change in changed if change < 0]
        unheld = "SELECT digest FROM holders WHERE count <= 0 AND digest IN"
        orphans = [digest for (digest,) in select_all(writer, unheld, fewer)]
        held = Counter(_names(writer, "blobs", "digest", orphans))
        execute_all(writer, "DELETE FROM blobs WHERE digest IN", orphans)
        execute_all(writer, "DELETE FROM holders WHERE digest IN", orphans)
        changes = {digest: -count for digest, count in held.items()}


def _names(connection: sqlite3.Connection, table: str, column: str, keys: Sequence[bytes | int]) -> Iterator[bytes]:
    """All names of blobs to which some rows refer."""
    cells = select_all(connection, f"SELECT {_REFERS} FROM {table} WHERE {column} IN", keys)  # noqa: S608
    return chain.from_iterable(names_in(cell) for (cell,) in cells if cell is not None)


def _insert(writer: sqlite3.Connection, insert: str, rows: Sequence[tuple[Any, ...]], otherwise: str = "") -> None:
    done = 0
    for size in _ROWS_AT_ONCE:
        while len(rows) - done >= size:
            some = rows[done : done + size]
            values = ",".join([f"({placeholders(len(some[0]))})"] * size)
            writer.execute(f"{insert} VALUES {values} {otherwise}", list(chain.from_iterable(some)))
            done += size


def _row(entry: Entry) -> tuple[Any, ...]:
    *facts, run = msgspec.structs.astuple(entry.facts)  # in the order of the columns
    refers = b"".join(entry.refers) or None
    return entry.key, entry.namespace, *facts, run or None, entry.expires, None, entry.value, entry.request, refers


def _bytes(cell: object) -> bytes:
    return cell if isinstance(cell, bytes) else b""


def _text(cell: object) -> str | None:
    return cell.decode(errors="replace") if isinstance(cell, bytes) and len(cell) <= _MOST_TEXT else None


def _number(cell: object) -> float | None:
    return cell if isinstance(cell, (int, float)) else None


def _integer(cell: object) -> int | None:
    return cell if isinstance(cell, int) else None
