"""Checks of a file: what is wrong with it, as far as it shows without decoding values."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator

from lm_deluge.cache.codec import decompress
from lm_deluge.cache.stores.sqlite.connection import MOST_CELL_BYTES
from lm_deluge.cache.stores.sqlite.parts import PART, further_tables, tables_of_ours
from lm_deluge.cache.stores.sqlite.rows import COLUMNS
from lm_deluge.cache.stores.sqlite.walk import is_damage, walk
from lm_deluge.canonical import KEY_SIZES
from lm_deluge.errors import DamagedEntryError

__all__ = ["problems", "read_blob"]

_MOST_LINES = 100


def problems(reader: sqlite3.Connection) -> Iterator[str]:
    """Everything that is wrong; nothing if all is well. Damage that ends one check does not end the others."""
    checks: list[Callable[[sqlite3.Connection], Iterator[str]]] = [_pages, _entries, _blobs, _missing]
    for check in checks:
        try:
            yield from check(reader)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            yield f"{check.__name__.strip('_')} cannot be read to the end: {error}"


def read_blob(digest: bytes, cell: object) -> bytes:
    """A blob out of its cell, not compressed.

    Raises:
        DamagedEntryError: the cell holds something else.
    """
    if not isinstance(cell, bytes):
        raise DamagedEntryError("it is no bytes")
    data = decompress(cell)
    if hashlib.sha256(data).digest() != digest:
        raise DamagedEntryError("it does not hold what its digest says")
    return data


def _pages(reader: sqlite3.Connection) -> Iterator[str]:
    rows = reader.execute(f"SELECT {PART} FROM sqlite_schema").fetchall()  # noqa: S608
    # Tables of the user are not checked. They may be large.
    for what in tables_of_ours(rows) if further_tables(rows) else [_MOST_LINES]:
        for (line,) in reader.execute(f"PRAGMA integrity_check({what})"):
            if line != b"ok":
                yield " ".join(line.decode(errors="replace").split())


def _entries(reader: sqlite3.Connection) -> Iterator[str]:
    holes = 0

    def count() -> None:
        nonlocal holes
        holes += 1

    kinds = "length(key), typeof(key), typeof(response), typeof(request), length(response), length(request)"
    # Reading the facts shows that they can be read.
    facts = COLUMNS.removeprefix("key, ").removesuffix(", response, request")
    for rowid, length, *rest in walk(reader, "entries", f"{kinds}, {facts}", on_damage=count):
        types, sizes = rest[:3], rest[3:5]
        if length not in KEY_SIZES or types != [b"blob"] * 3:
            yield f"entry {rowid} has cells of another type than was stored"
        elif max(sizes) > MOST_CELL_BYTES:
            yield f"entry {rowid} has a cell of {max(sizes):,} bytes, and no entry has more than {MOST_CELL_BYTES:,}"
    if holes:
        yield f"entries cannot be read in {holes} places"


def _blobs(reader: sqlite3.Connection) -> Iterator[str]:
    for (digest,) in reader.execute("SELECT digest FROM blobs").fetchall():
        found = reader.execute("SELECT data FROM blobs WHERE digest = ?", (digest,)).fetchone()
        try:
            if found is not None:  # else it was removed meanwhile
                read_blob(digest, found[0])
        except DamagedEntryError as error:
            yield f"blob {_name(digest)} is damaged: {error}"


def _missing(reader: sqlite3.Connection) -> Iterator[str]:
    missing = "SELECT digest FROM holders WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.digest = holders.digest)"
    for (digest,) in reader.execute(missing):
        yield f"blob {_name(digest)} is missing, and something refers to it"


def _name(digest: object) -> str:
    return f"{digest.hex()[:16]}…" if isinstance(digest, bytes) else "with another type of name"
