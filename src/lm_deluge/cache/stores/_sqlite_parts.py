"""Parts of a file that would run with our statements: views, triggers, generated columns, checks, expressions.

SQLite executes what a file's schema says, whoever wrote it. A view in the place of a table can go on without end, and a
trigger can take away what is stored. So our tables have to be as we make them, and beside them there may be tables and
plain indexes of the user's, which nothing runs.
"""

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

from lm_deluge.cache.stores._sqlite_schema import create, upgrade
from lm_deluge.errors import CacheFileError

__all__ = ["refuse_foreign_parts"]

# The tables of format 1, as they were made.
_SCHEMA_1 = (
    "CREATE TABLE entries (key BLOB NOT NULL PRIMARY KEY, namespace TEXT NOT NULL, created REAL NOT NULL, model TEXT, "
    "finish_reason TEXT, input_tokens INTEGER, output_tokens INTEGER, cache_read_tokens INTEGER, "
    "cache_write_tokens INTEGER, cost REAL, response BLOB NOT NULL, request BLOB NOT NULL)",
    "CREATE TABLE blobs (digest BLOB NOT NULL PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE damaged (key BLOB NOT NULL, set_aside REAL NOT NULL, reason TEXT NOT NULL, response BLOB, "
    "request BLOB)",
)
_ORDER = "create index entries_by_use on entries(coalesce(used,created))"
_PLAIN_INDEX = re.compile(r"create index [\w ]+ on (\w+)\(\w+( asc| desc)?(,\w+( asc| desc)?)*\)")

Part = tuple[str, str, str, str]


def refuse_foreign_parts(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that has such a part.

    Args:
        connection: to a file that says that it is ours.
        path: of the file, for the message.

    Raises:
        CacheFileError: it has one.
        sqlite3.DatabaseError: its schema cannot be read.
    """
    for kind, name, table, sql in _parts(connection):
        if not _is_harmless(kind, name, table, sql):
            raise CacheFileError(
                f"{path} has a part that is not of our making and would run with our statements: {kind} {name!r}. It "
                "was left as it is. Look at it in the sqlite3 shell and drop it there, or give another path."
            )


def _parts(connection: sqlite3.Connection) -> list[Part]:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    return [(_text(kind), _text(name), _text(table), _normal(_text(sql))) for kind, name, table, sql in rows]


def _is_harmless(kind: str, name: str, table: str, sql: str) -> bool:
    ours = _ours()
    if kind == "table":
        if name.lower() in ours:
            return sql in ours[name.lower()]
        # The name may say one thing and the statement another, and SQLite goes by the statement.
        return re.match(rf"create table {re.escape(_normal(name))}\W", sql) is not None
    if kind == "index":
        if not sql:
            return True  # SQLite's own, for a primary key
        found = _PLAIN_INDEX.fullmatch(sql)
        return sql == _ORDER or table.lower() not in ours or (found is not None and found[1] == table.lower())
    return False


@lru_cache(maxsize=1)
def _ours() -> dict[str, frozenset[str]]:
    """What our tables look like in the schema of a file: as they are made now, before, and when brought up to date."""
    found: dict[str, set[str]] = {}
    for old in (False, True):
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            if old:
                for statement in _SCHEMA_1:
                    connection.execute(statement)
                _add(found, _parts(connection))
                upgrade(connection, [])
            else:
                create(connection)
            _add(found, _parts(connection))
    return {name: frozenset(texts) for name, texts in found.items()}


def _add(found: dict[str, set[str]], parts: Sequence[Part]) -> None:
    for kind, name, _, sql in parts:
        if kind == "table":
            found.setdefault(name, set()).add(sql)


def _text(cell: Any) -> str:
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell or "")


def _normal(sql: str) -> str:
    """Without what SQLite and people may write in one way or another."""
    return re.sub(r"\s*([(),])\s*", r"\1", re.sub(r"\s+", " ", sql.replace('"', "").lower())).strip()
