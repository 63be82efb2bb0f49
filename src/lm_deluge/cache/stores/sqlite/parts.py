"""Parts of a file that would run with our statements: views, triggers, generated columns, checks, expressions.

Our tables have to be as we make them. Users may add tables and indexes without any expression, because nothing of them
runs, not even when SQLite checks them.
"""

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

from lm_deluge.cache.stores.sqlite.schema import create
from lm_deluge.errors import CacheFileError

__all__ = ["PART", "Row", "further_tables", "refuse_foreign_parts", "tables_of_ours"]

_ORDER = "create index entries_by_use on entries(coalesce(used,created))"
_INDEX = re.compile(r"create( unique)? index [\w ]+ on (\w+)\(\w+( asc| desc)?(,\w+( asc| desc)?)*\)")
_EXPRESSION = re.compile(r"\b(as|check|default)\(")

PART = "type, name, tbl_name, sql"
"""The columns of a row of ``sqlite_schema`` that say what a part is."""

Row = tuple[Any, ...]
Part = tuple[str, str, str]


def refuse_foreign_parts(rows: Iterable[Row], path: Path) -> None:
    """Refuse a file with parts that would run with our statements.

    Args:
        rows: of its schema, with the columns of ``PART``.
        path: of the file, for the message.

    Raises:
        CacheFileError: it has one.
    """
    part = _first_foreign(tuple(rows))
    if part is not None:
        raise CacheFileError(
            f"{path} has a part that is not of our making and would run with our statements: {part}. It "
            "was left as it is. Look at it in the sqlite3 shell and drop it there, or give another path."
        )


@lru_cache(maxsize=8)  # most files have the same schema, which each connection checks
def _first_foreign(rows: tuple[Row, ...]) -> str | None:
    return next((f"{kind} {name!r}" for kind, name, sql in _parts(rows) if not _is_harmless(kind, name, sql)), None)


def further_tables(rows: Iterable[Row]) -> bool:
    """Whether there are tables that are not ours."""
    return any(kind == "table" and name.lower() not in _ours() for kind, name, _ in _parts(rows))


def tables_of_ours(rows: Iterable[Row]) -> list[str]:
    """The names of our tables that there are."""
    return [name.lower() for kind, name, _ in _parts(rows) if kind == "table" and name.lower() in _ours()]


def _parts(rows: Iterable[Row]) -> list[Part]:
    return [(_text(kind), _text(name), _normal(_text(sql))) for kind, name, _, sql in rows]


def _is_harmless(kind: str, name: str, sql: str) -> bool:
    """Whether a part runs nothing. Its row may name another kind or table than the statement that SQLite reads."""
    ours = _ours()
    if kind == "table":
        if name.lower() in ours:
            return sql == ours[name.lower()]
        return re.match(rf"create table {re.escape(_normal(name))}\(", sql) is not None and not _EXPRESSION.search(sql)
    if kind == "index":
        if not sql:
            return True  # SQLite's own, for a primary key
        found = _INDEX.fullmatch(sql)
        return sql == _ORDER or (found is not None and not (found[1] and found[2] in ours))
    return False


@lru_cache(maxsize=1)
def _ours() -> dict[str, str]:
    """What our tables look like in the schema of a file."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        create(connection)
        parts = _parts(connection.execute(f"SELECT {PART} FROM sqlite_schema"))  # noqa: S608
        return {name: sql for kind, name, sql in parts if kind == "table"}


def _text(cell: Any) -> str:
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell or "")


def _normal(sql: str) -> str:
    """The statement without differences in spacing, case and quotes."""
    return re.sub(r"\s*([(),])\s*", r"\1", re.sub(r"\s+", " ", sql.replace('"', "").lower())).strip()
