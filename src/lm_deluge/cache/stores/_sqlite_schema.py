"""The tables, in plain columns for people who open the file, and the way from the previous format to this one.

Times are seconds since the Unix epoch. ``refers`` are names of blobs, 32 bytes each, one after the other, and
``holders`` counts how often a blob is referred to by entries, by other blobs and by what was set aside. A row for each
reference would cost every put two more pages; a count that many entries of a batch share costs next to nothing.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from lm_deluge.cache.codec import decompress
from lm_deluge.cache.stores._sqlite_walk import is_damage, select_by_key, walk
from lm_deluge.errors import DamagedEntryError

__all__ = ["FORMAT", "KEEPS_SHRINKABLE", "Reference", "create", "names_in", "references", "upgrade"]

FORMAT = 2
"""Version of the tables, kept in ``user_version``."""

KEEPS_SHRINKABLE = "PRAGMA auto_vacuum = INCREMENTAL"
"""To be said before a file has its first table. Then it can give room back to the disk bit by bit, and not only by
being written anew as a whole. It costs one page in 800."""

_SCHEMA = """
CREATE TABLE entries (
    key           BLOB NOT NULL PRIMARY KEY,
    namespace     TEXT NOT NULL,
    created       REAL NOT NULL,
    asked         TEXT,
    model         TEXT,
    finish_reason TEXT,
    input_tokens  INTEGER,
    output_tokens INTEGER,
    cache_read_tokens  INTEGER,
    cache_write_tokens INTEGER,
    cost          REAL,
    run           INTEGER,
    expires       REAL,
    used          REAL,
    refers        BLOB,
    response      BLOB NOT NULL,
    request       BLOB NOT NULL
);
CREATE TABLE blobs (
    digest BLOB NOT NULL PRIMARY KEY,
    refers BLOB,
    data   BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE set_aside (
    key      BLOB NOT NULL,
    at       REAL NOT NULL,
    reason   TEXT NOT NULL,
    refers   BLOB,
    response BLOB,
    request  BLOB
);
"""

_SINCE_2 = """
CREATE TABLE holders (
    digest BLOB NOT NULL PRIMARY KEY,
    count  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE leases (
    key     BLOB NOT NULL PRIMARY KEY,
    holder  BLOB NOT NULL,
    expires REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE runs (
    id           INTEGER PRIMARY KEY,
    started      REAL NOT NULL,
    name         TEXT,
    tags         TEXT NOT NULL,
    models       TEXT NOT NULL,
    prompts      INTEGER,
    calls        INTEGER,
    hits         INTEGER,
    errors       INTEGER,
    cost         REAL,
    cost_avoided REAL,
    report       TEXT
);
CREATE TABLE hidden (
    key BLOB NOT NULL PRIMARY KEY
) WITHOUT ROWID;
"""

_FROM_1 = """
ALTER TABLE entries ADD COLUMN asked TEXT;
ALTER TABLE entries ADD COLUMN run INTEGER;
ALTER TABLE entries ADD COLUMN expires REAL;
ALTER TABLE entries ADD COLUMN used REAL;
ALTER TABLE entries ADD COLUMN refers BLOB;
ALTER TABLE blobs ADD COLUMN refers BLOB;
ALTER TABLE damaged ADD COLUMN refers BLOB;
"""

_RENAMED = """
ALTER TABLE damaged RENAME TO set_aside;
ALTER TABLE set_aside RENAME COLUMN set_aside TO at;
"""

Refers = Callable[[bytes], tuple[bytes, ...]]
"""Names of the blobs that some bytes refer to. Raises ``DamagedEntryError`` where they cannot be told."""


class Reference(NamedTuple):
    """What a row of format 1 refers to: its table, its rowid or digest, and the names as ``refers`` holds them."""

    table: str
    row: int | bytes
    refers: bytes


def create(connection: sqlite3.Connection) -> None:
    """Make the tables. The caller has a transaction."""
    _run(connection, _SCHEMA + _SINCE_2)


def references(connection: sqlite3.Connection, refers_of: Refers, refers_of_blob: Refers) -> list[Reference]:
    """Who refers to which blobs in a file of format 1, as far as it can be read.

    Args:
        connection: reads the file; in no transaction that is to go on, for SQLite does nothing more in one that has met
            a damaged page.
        refers_of: for stored requests.
        refers_of_blob: for blobs, not compressed.
    """
    try:
        digests = [digest for (digest,) in connection.execute("SELECT digest FROM blobs").fetchall()]
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return []  # as for the blobs to which nothing leads: what is not counted stays
    found: list[Reference] = []
    for digest in digests:
        rows, _ = select_by_key(connection, "SELECT data FROM blobs WHERE digest IN", [digest])
        names = _told(lambda packed: refers_of_blob(decompress(packed)), rows[0][0] if rows else None)
        if names:
            found.append(Reference("blobs", digest, b"".join(names)))
    for table in ("entries", "damaged") if digests else ():
        for rowid, request in walk(connection, table, "request"):
            names = _told(refers_of, request)
            if names:
                found.append(Reference(table, rowid, b"".join(names)))
    return found


def upgrade(connection: sqlite3.Connection, found: Sequence[Reference]) -> None:
    """Turn tables of format 1 into those of format 2. The caller has a transaction.

    Args:
        connection: writes the file.
        found: the references in it.
    """
    _run(connection, _FROM_1)
    counts: Counter[bytes] = Counter()
    for table, row, refers in found:
        name = "digest" if table == "blobs" else "rowid"
        connection.execute(f"UPDATE {table} SET refers = ? WHERE {name} = ?", (refers, row))  # noqa: S608
        counts.update(names_in(refers))
    _run(connection, _RENAMED + _SINCE_2)
    connection.executemany("INSERT INTO holders (digest, count) VALUES (?, ?)", counts.items())


def names_in(refers: bytes) -> Iterator[bytes]:
    """The names in a cell of ``refers``."""
    return (refers[start : start + 32] for start in range(0, len(refers), 32))


def _told(refers: Refers, cell: Any) -> tuple[bytes, ...]:
    if not isinstance(cell, bytes):
        return ()
    try:
        return refers(cell)
    except DamagedEntryError:
        return ()  # lookups and verify say so; here it refers to nothing


def _run(connection: sqlite3.Connection, script: str) -> None:
    # Not by executescript, which would commit the transaction first.
    for statement in filter(str.strip, script.split(";")):
        connection.execute(statement)
