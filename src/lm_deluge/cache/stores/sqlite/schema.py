"""The tables, in plain columns for people who open the file.

Times are seconds since the Unix epoch. ``refers`` are names of blobs, 32 bytes each, one after the other, and
``holders`` counts how often a blob is referred to by entries, by other blobs and by quarantined entries (the table
``set_aside``). A row for each reference would cost every put two more pages; a count that many entries of a batch share
costs next to nothing.
"""

import sqlite3
from collections.abc import Iterator

__all__ = ["FORMAT", "KEEPS_SHRINKABLE", "create", "names_in"]

FORMAT = 2
"""Version of the tables, kept in ``user_version``."""

KEEPS_SHRINKABLE = "PRAGMA auto_vacuum = INCREMENTAL"
"""To be said before a file has its first table. Then it can give room back to the disk bit by bit, and not only by
being written again as a whole. It costs one page in 800."""

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


def create(connection: sqlite3.Connection) -> None:
    """Make the tables. The caller has a transaction."""
    # Not by executescript, which would commit the transaction first.
    for statement in filter(str.strip, _SCHEMA.split(";")):
        connection.execute(statement)


def names_in(refers: bytes) -> Iterator[bytes]:
    """The names in a cell of ``refers``."""
    return (refers[start : start + 32] for start in range(0, len(refers), 32))
