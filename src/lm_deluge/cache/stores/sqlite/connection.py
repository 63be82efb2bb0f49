"""Every connection to an SQLite file. A hostile file can run nothing through it.

SQLite executes what a file's schema says: a view in place of a table can run without end, a trigger can delete what is
stored. So a statement is prepared only after the schema was checked, in the same transaction. An authorizer enforces
this. SQLite asks it again when the schema has changed, because it then prepares its statements again. A prepared
statement that is used again costs nothing.

In addition, a cell above the limit for one entry is not read, every statement has a time limit, and a journal that
would make SQLite delete another file is refused.
"""

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lm_deluge.cache.stores.sqlite.parts import PART, Row, refuse_foreign_parts
from lm_deluge.cache.stores.sqlite.walk import walk
from lm_deluge.errors import CacheFileError

__all__ = ["MOST_CELL_BYTES", "Connection", "check_companions", "connect"]

MOST_CELL_BYTES = 256 * 1024 * 1024
"""Length of a cell above which it is damage: no entry has one."""

_SECONDS = 60.0  # for one statement; each so many bytes of the file add a second
_BYTES_PER_SECOND = 1_000_000
_STEPS = 1_000_000  # of a statement between two checks of the time: a few milliseconds
_STATEMENTS = 64  # that stay prepared

_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")  # ends a journal that names one; SQLite's "Database File Format", 3
# They name no table. Pragmas are ours, each spelled out where it is used; the one that evaluates what is in the schema
# is not among these.
_FREE = frozenset({sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT, sqlite3.SQLITE_PRAGMA})
_LOOKED_AT = frozenset({"integrity_check"})
_NEVER = frozenset({sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH})

T = TypeVar("T")
_execute = sqlite3.Connection.execute
_executemany = sqlite3.Connection.executemany


class _Guard:
    """What SQLite asks while it prepares and executes. It does not refer to the connection, which is freed at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open = False
        self.since: float | None = None  # when the statement was first seen executing

    def authorize(self, action: int, first: Any, second: Any, database: Any, inner: Any) -> int:
        """Whether a part of a statement may be prepared. ``inner`` is the view or the trigger that asks for it."""
        if action in _FREE and first not in _LOOKED_AT:
            return sqlite3.SQLITE_OK
        allowed = self.open and inner is None and action not in _NEVER
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    def is_too_long(self) -> bool:
        """Whether the current statement has exceeded its time."""
        now = time.monotonic()
        if self.since is None:
            self.since = now
        if now - self.since <= _SECONDS:
            return False
        return now - self.since > _SECONDS + os.stat(self.path).st_size / _BYTES_PER_SECOND  # noqa: PTH116


class Connection(sqlite3.Connection):
    """One connection. Use ``execute`` and ``executemany`` for all statements."""

    _guard: _Guard
    _seen: list[Row] | None
    _damaged: bool

    def begin(self, path: Path, *, damaged: bool) -> None:
        """Set the limits, before the first statement."""
        self._guard = _Guard(path)
        self._seen = None
        self._damaged = damaged
        self.text_factory = bytes  # a damaged file may hold text that is not UTF-8
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_CELL_BYTES)
        self.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        self.set_authorizer(self._guard.authorize)
        self.set_progress_handler(self._guard.is_too_long, _STEPS)
        # Functions in a schema are not trusted, and cheap checks for damage are on.
        _execute(self, "PRAGMA trusted_schema = OFF")
        _execute(self, "PRAGMA cell_size_check = ON")

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        """As in ``sqlite3``.

        Raises:
            CacheFileError: the file has a part that would run with the statement.
        """
        return self._executed(_execute, sql, parameters)

    def executemany(self, sql: str, parameters: Any) -> sqlite3.Cursor:
        """As in ``sqlite3``, and as ``execute``."""
        return self._executed(_executemany, sql, list(parameters))

    def _executed(self, execute: Callable[..., sqlite3.Cursor], sql: str, parameters: Any) -> sqlite3.Cursor:
        self._guard.since = None
        try:
            return execute(self, sql, parameters)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_AUTH:
                raise
        return self._after_a_look(lambda: execute(self, sql, parameters))

    def look(self) -> None:
        """Look at the schema.

        Raises:
            CacheFileError: it has a part that would run with our statements.
            sqlite3.DatabaseError: it cannot be read.
        """
        self._guarded(self._look)

    def has_parts(self) -> bool:
        """Whether there is anything in the schema, ours or not."""
        return self._guarded(lambda: _execute(self, "SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()) is not None

    def _after_a_look(self, prepare: Callable[[], T]) -> T:
        # One transaction, so the statement is prepared for the schema that was checked.
        alone = not self.in_transaction
        if alone:
            _execute(self, "BEGIN")

        def look_and_prepare() -> T:
            self._look()
            return prepare()

        try:
            return self._guarded(look_and_prepare)
        finally:
            if alone and self.in_transaction:
                _execute(self, "COMMIT")  # a statement that still gives rows keeps what it reads

    def _guarded(self, prepare: Callable[[], T]) -> T:
        self._guard.open = True
        try:
            return prepare()
        finally:
            self._guard.open = False

    def _look(self) -> None:
        # As much as can be read: SQLite has read no more of it.
        rows = [row[1:] for row in walk(self, "sqlite_schema", PART)] if self._damaged else self._rows()
        if rows != self._seen:
            refuse_foreign_parts(rows, self._guard.path)
            self._seen = rows

    def _rows(self) -> list[Row]:
        return _execute(self, f"SELECT {PART} FROM sqlite_schema").fetchall()  # noqa: S608


def connect(path: Path, parameters: str, *, timeout: float = 0.0, damaged: bool = False) -> Connection:
    """Connect to a file. It is not read yet.

    Args:
        path: absolute and without links, for what belongs to a file lies beside it.
        parameters: of the URI, such as ``mode=ro``.
        timeout: seconds for which SQLite waits for others.
        damaged: whether a schema is taken that can be read in part only.

    Raises:
        CacheFileError: a journal of another program lies beside it.
    """
    connection = sqlite3.connect(
        f"{path.as_uri()}?{parameters}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,  # each connection is guarded by a lock
        cached_statements=_STATEMENTS,
        factory=Connection,
    )
    try:
        connection.begin(path, damaged=damaged)
        if "immutable" not in parameters:  # which looks at nothing but the file
            check_companions(path)
    except BaseException:
        connection.close()
        raise
    return connection


def check_companions(path: Path) -> None:
    """Refuse a file that has another program's journal beside it. Nothing is changed.

    SQLite takes the name of a "super-journal" out of a journal, and deletes the file of that name. Only a transaction
    over several files has one, and ours never are.

    Raises:
        CacheFileError: there is one, or something else than a file.
    """
    for suffix in ("-journal", "-wal", "-shm"):
        companion = Path(f"{path}{suffix}")
        try:
            found = companion.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise CacheFileError(
                f"{companion} is a link or no file, so SQLite could write elsewhere through it. It and {path} were "
                "left as they are. Look at what it is, and remove it."
            )
        if suffix == "-journal" and found.st_size >= len(_SUPER_JOURNAL) and _end(companion) == _SUPER_JOURNAL:
            raise CacheFileError(
                f"{companion} is the journal of another program's transaction over several files, and completing it "
                f"would delete a file. It and {path} were left as they are. Let that program complete it, or remove it."
            )


def _end(journal: Path) -> bytes:
    # SQLite takes no locks on a journal that closing it could end.
    try:
        descriptor = os.open(journal, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return b""  # its transaction is over
    except OSError as error:
        raise CacheFileError(f"The journal {journal} cannot be read: {error}.") from error
    with open(descriptor, "rb") as file:  # noqa: PTH123
        file.seek(-min(len(_SUPER_JOURNAL), file.seek(0, os.SEEK_END)), os.SEEK_END)
        return file.read()
