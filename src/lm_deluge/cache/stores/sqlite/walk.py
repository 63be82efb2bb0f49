"""Reading rows of a file that may be damaged: all rows that can be read, and the keys of those that cannot.

SQLite gives up a statement at the first damaged page. The rows beyond it are found by asking for higher row numbers.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from lm_deluge.cache._batched import batched

__all__ = [
    "MAX_VARIABLES",
    "Page",
    "execute_all",
    "is_damage",
    "placeholders",
    "read_page",
    "select_all",
    "select_by_key",
    "walk",
]

MAX_VARIABLES = 500
"""How many keys go into one statement. SQLite's own limit is 32,766; a longer statement is not faster."""

_MOST_BYTES = 8 * 1024 * 1024
_LAST_ROWID = 2**63 - 1

Row = tuple[Any, ...]


class Page(NamedTuple):
    """Consecutive rows.

    Attributes:
        rows: each with its rowid first.
        position: the rowid after which to go on; None at the end.
        damaged: whether rows were left out between these and ``position`` because they cannot be read.
    """

    rows: list[Row]
    position: int | None
    damaged: bool


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether an error is about the content of the file, and not about access to it or the statement.

    A cell that is longer than any of ours is damage too. A statement that is not allowed is not.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if type(error) is sqlite3.DatabaseError:
        return code != sqlite3.SQLITE_AUTH
    return code == sqlite3.SQLITE_TOOBIG


def placeholders(count: int) -> str:
    """Placeholders for ``count`` values."""
    return ",".join("?" * count)


def select_by_key(reader: sqlite3.Connection, select: str, keys: Sequence[bytes]) -> tuple[list[Row], list[bytes]]:
    """The rows of many keys, and the keys whose rows cannot be read.

    Args:
        reader: reads the file.
        select: a statement that ends in ``IN``.
        keys: any number of them.
    """
    rows: list[Row] = []
    unreadable: list[bytes] = []
    for some in batched(keys, MAX_VARIABLES):
        try:
            rows += reader.execute(f"{select} ({placeholders(len(some))})", some).fetchall()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            # A damaged page ends the statement. With one statement for each key, only the keys on that page are lost.
            for key in some:
                try:
                    rows += reader.execute(f"{select} (?)", (key,)).fetchall()
                except sqlite3.DatabaseError as error:
                    if not is_damage(error):
                        raise
                    unreadable.append(key)
    return rows, unreadable


def select_all(reader: sqlite3.Connection, select: str, keys: Iterable[Any], before: Row = ()) -> list[Row]:
    """The rows of many keys; unlike ``select_by_key``, not without those that cannot be read.

    Args:
        reader: reads the file.
        select: a statement that ends in ``IN``.
        keys: any number of them.
        before: the parameters that come before them.
    """
    rows: list[Row] = []
    for some in batched(keys, MAX_VARIABLES):
        rows += reader.execute(f"{select} ({placeholders(len(some))})", [*before, *some]).fetchall()
    return rows


def execute_all(writer: sqlite3.Connection, statement: str, keys: Iterable[Any], before: Row = ()) -> int:
    """Do something to the rows of many keys, with parameters as in ``select_all``; how many there were."""
    count = 0
    for some in batched(keys, MAX_VARIABLES):
        count += writer.execute(f"{statement} ({placeholders(len(some))})", [*before, *some]).rowcount
    return count


def walk(
    reader: sqlite3.Connection, table: str, columns: str, *, on_damage: Callable[[], None] = lambda: None
) -> Iterator[Row]:
    """All rows of a table that can be read, each with its rowid first, in the order in which they were stored."""
    position: int | None = 0
    while position is not None:
        page = read_page(reader, table, columns, after=position)
        yield from page.rows
        if page.damaged:
            on_damage()
        position = page.position


def read_page(
    reader: sqlite3.Connection,
    table: str,
    columns: str,
    *,
    after: int | None = None,
    backwards: bool = False,
    count: int = 256,
) -> Page:
    """The next rows of a table.

    Args:
        reader: reads the file.
        table: one that has rowids.
        columns: of the table, separated by commas.
        after: the ``position`` of the page before; None for the first.
        backwards: the last stored rows first.
        count: how many; fewer if they are large.
    """
    # ">= 9", not "> 8": SQLite would look for row 8 first, which may be on a damaged page.
    compare, order, sign = ("<=", "DESC", -1) if backwards else (">=", "ASC", 1)
    sql = f"SELECT rowid, {columns} FROM {table} WHERE rowid {compare} ? ORDER BY rowid {order} LIMIT ?"  # noqa: S608
    start = (_LAST_ROWID if backwards else 1) if after is None else after + sign
    rows: list[Row] = []
    size = 0
    try:
        # An open cursor would keep the WAL from being emptied.
        with closing(reader.execute(sql, (start, count))) as cursor:
            for row in cursor:
                rows.append(row)
                size += sum(len(cell) for cell in row if isinstance(cell, bytes))
                if size > _MOST_BYTES:
                    break
            is_last = len(rows) < count and size <= _MOST_BYTES
        return Page(rows, None if is_last else rows[-1][0], damaged=False)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    return _beyond_damage(reader, sql, rows, rows[-1][0] + sign if rows else start, sign)


def _beyond_damage(reader: sqlite3.Connection, sql: str, rows: list[Row], start: int, sign: int) -> Page:
    """A page that damage has ended, and where the nearest row is that can be read."""

    def one_from(rowid: int) -> list[Row] | None:
        try:
            return reader.execute(sql, (rowid, 1)).fetchall()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return None

    # Python returns a row only after it has fetched the next one, so the last good row is still missing.
    while found := one_from(start):
        rows += found
        start = found[0][0] + sign
    powers = [2**power for power in range(63)]
    if sign > 0:
        further = [start + power for power in powers if start + power <= _LAST_ROWID]
    else:  # row numbers are small, so small powers are the better guesses from the far end
        further = sorted({start - power for power in powers if power <= start} | {*powers}, reverse=True)
        further = [rowid for rowid in further if rowid < start]
    bad = start
    for good in further:
        if one_from(good) is not None:
            break
        bad = good
    else:
        return Page(rows, None, damaged=True)
    while abs(good - bad) > 1:  # the nearest row that can be read is between the two
        middle = (bad + good) // 2
        bad, good = (bad, middle) if one_from(middle) is not None else (middle, good)
    return Page(rows, good - sign, damaged=True)
