"""Entries in one SQLite file that many threads and processes may use at once.

The file is in WAL mode: readers never wait for the writer, and an entry is committed when ``put_many`` returns, so
killing the process loses nothing that was stored. Before anything is written, the file is looked at without opening it
for use, so a file that is not ours is never touched.
"""

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

from lm_deluge.cache._forks import close_before_fork
from lm_deluge.cache.codec import compress
from lm_deluge.cache.record import Entry
from lm_deluge.cache.stores._sqlite_file import (
    APPLICATION_ID,
    FORMAT,
    check_file,
    check_version,
    create_private,
    read_pragma,
)
from lm_deluge.errors import CacheError, CacheFileError, ConfigError

__all__ = ["SqliteStore", "Synchronous"]

_BUSY_SECONDS = 60.0
_MAX_VARIABLES = 500  # SQLite's own limit is 32,766; a longer statement is not faster
_KNOWN_BLOBS = 4096
_UNREADABLE = b""

_SCHEMA = """
CREATE TABLE entries (
    key           BLOB NOT NULL PRIMARY KEY,
    namespace     TEXT NOT NULL,
    created       REAL NOT NULL,
    model         TEXT,
    finish_reason TEXT,
    input_tokens  INTEGER,
    output_tokens INTEGER,
    cache_read_tokens  INTEGER,
    cache_write_tokens INTEGER,
    cost          REAL,
    response      BLOB NOT NULL,
    request       BLOB NOT NULL
);
CREATE TABLE blobs (
    digest BLOB NOT NULL PRIMARY KEY,
    data   BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE damaged (
    key       BLOB NOT NULL,
    set_aside REAL NOT NULL,
    reason    TEXT NOT NULL,
    response  BLOB,
    request   BLOB
);
"""

# sqlite3 lets go of the interpreter for each step of a statement, and where an event loop is busy each return to it
# can take five milliseconds. So many rows go into one statement; a few sizes serve every batch.
_ROWS_AT_ONCE = (64, 8, 1)

_PUT = """
INSERT INTO entries (key, namespace, created, model, finish_reason, input_tokens, output_tokens,
                     cache_read_tokens, cache_write_tokens, cost, response, request)
VALUES {rows}
ON CONFLICT (key) DO UPDATE SET
    namespace = excluded.namespace, created = excluded.created, model = excluded.model,
    finish_reason = excluded.finish_reason, input_tokens = excluded.input_tokens,
    output_tokens = excluded.output_tokens, cache_read_tokens = excluded.cache_read_tokens,
    cache_write_tokens = excluded.cache_write_tokens, cost = excluded.cost,
    response = excluded.response, request = excluded.request
"""

Synchronous = Literal["NORMAL", "FULL"]
T = TypeVar("T")


class SqliteStore:
    """One SQLite file, made private (0600, in a directory of 0700) when it is new.

    Args:
        path: the file. ``~`` is expanded, and a relative path is taken from where the process is now.
        synchronous: ``"NORMAL"`` survives the death of the process; ``"FULL"`` waits for the disk at each commit and
            survives a power cut as well.

    Raises:
        CacheFileError: the file is not a cache, is truncated, or cannot be written. It is left untouched.
        CacheVersionError: a newer version of this package wrote it. It is left untouched.
        ConfigError: another value of ``synchronous``, or ``":memory:"`` for the path.
    """

    blocks: ClassVar[bool] = True

    def __init__(self, path: str | Path, *, synchronous: Synchronous = "NORMAL") -> None:
        if synchronous not in get_args(Synchronous):
            raise ConfigError(f"synchronous is {synchronous!r}; NORMAL or FULL is needed.")
        if str(path) == ":memory:":
            raise ConfigError("SqliteCache needs a file. For a cache in memory use MemoryCache().")
        self._path = Path(path).expanduser().absolute()
        self._synchronous = synchronous
        self._closed = False
        self._held = _Held()
        close_before_fork(self._held)
        weakref.finalize(self, self._held.close)
        with self._held.writing, self._reported("opened for writing", damaged=CacheFileError):
            self._open()

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found: dict[bytes, Any] = {}
        with self._held.reading, self._reported("read"):
            reader = self._held.reader = self._held.reader or self._connect()
            for start in range(0, len(keys), _MAX_VARIABLES):
                some = keys[start : start + _MAX_VARIABLES]
                try:
                    found.update(_select(reader, some))
                except sqlite3.DatabaseError as error:
                    if isinstance(error, sqlite3.OperationalError):
                        raise
                    # A damaged page spoils the statement. Asked for one by one, only the keys on it are lost.
                    for key in some:
                        found[key] = _select_one(reader, key)
        return [found.get(key) for key in keys]

    def put_many(self, entries: Sequence[Entry]) -> None:
        now = time.time()
        rows = [_row(entry, now) for entry in entries]
        blobs = {digest: data for entry in entries for digest, data in entry.blobs.items()}
        with self._write() as writer:
            # Written by this process before, so still there: a shared prefix is not bound again for each entry.
            known = self._held.known_blobs
            new = [(digest, compress(data)) for digest, data in blobs.items() if digest not in known]
            with _transaction(writer):
                if new:
                    writer.executemany("INSERT OR IGNORE INTO blobs (digest, data) VALUES (?, ?)", new)
                _put(writer, rows)
            if len(known) > _KNOWN_BLOBS:
                known.clear()
            known.update(blobs)

    def set_aside(self, key: bytes, value: object, reason: str) -> None:
        with self._write() as writer, _transaction(writer):
            # Only while it still has the damaged value: another process may have stored a good one meanwhile.
            writer.execute(
                "INSERT INTO damaged (key, set_aside, reason, response, request) "
                "SELECT key, ?, ?, response, request FROM entries WHERE key = ? AND response IS ?",
                (time.time(), reason, key, value),
            )
            writer.execute("DELETE FROM entries WHERE key = ? AND response IS ?", (key, value))

    def delete(self, key: bytes) -> bool:
        with self._write() as writer, _transaction(writer):
            return writer.execute("DELETE FROM entries WHERE key = ?", (key,)).rowcount > 0

    def close(self) -> None:
        self._closed = True
        self._held.close()

    @property
    def location(self) -> str:
        return str(self._path)

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """The connection that writes, for one caller at a time."""
        with self._held.writing, self._reported("written"):
            if self._held.writer is not None and self._held.identity != _identity(self._path):
                self._forget_removed_file()
            yield self._held.writer or self._open()

    def _forget_removed_file(self) -> None:
        # Somebody removed or replaced the file. What is written to the old one would be lost, so a new one is begun.
        with self._held.reading:
            self._held.drop()

    def _open(self) -> sqlite3.Connection:
        check_file(self._path)
        create_private(self._path)
        connection = self._connect()
        self._held.writer, self._held.identity = connection, _identity(self._path)
        return connection

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise CacheFileError(f"The cache {self._path} is closed.")
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw",  # never makes a file: that is create_private's to do
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,  # each connection is guarded by its lock
            cached_statements=16,
        )
        connection.text_factory = bytes  # nothing here reads text; a damaged file may hold some that is not UTF-8
        try:
            self._prepare(connection)
            _until_free(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables in a new file; refuse one that became somebody else's meanwhile.

        It happens before the switch to WAL, so the file itself says from its first moment what it is.
        """
        if self._is_ours(connection):
            return
        with _transaction(connection):
            if self._is_ours(connection):
                return  # another process was faster
            if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() != (0,):
                raise CacheFileError(f"{self._path} is an SQLite file of another program. Give another path.")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        if read_pragma(connection, "application_id") != APPLICATION_ID:
            return False
        check_version(self._path, read_pragma(connection, "user_version"))
        return True

    @contextlib.contextmanager
    def _reported(self, done: str, *, damaged: type[CacheError] = CacheError) -> Iterator[None]:
        """Turn SQLite's errors about the file into ours; those about one entry stay as they are."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise CacheFileError(
                f"The cache file {self._path} cannot be {done}: {error}. Check that it is still there, that the disk "
                "is not full or read-only, and that no other program keeps it locked."
            ) from error
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise
            raise damaged(
                f"The cache file {self._path} is damaged ({error}). Restore it from a copy, or remove it."
            ) from error


class _Held:
    """What this process holds open: a connection that reads and one that writes, each behind its lock."""

    def __init__(self) -> None:
        self.reading = threading.Lock()
        self.writing = threading.Lock()
        self.reader: sqlite3.Connection | None = None
        self.writer: sqlite3.Connection | None = None
        self.identity: tuple[int, int] | None = None  # of the file that ``writer`` has open
        self.known_blobs: set[bytes] = set()  # digests of blobs that are in that file

    def drop(self) -> None:
        """Close both connections. The caller has both locks."""
        for connection in (self.reader, self.writer):
            if connection is not None:
                connection.close()
        self.reader = self.writer = None
        self.known_blobs.clear()

    def close(self) -> None:
        with self.writing, self.reading:
            self.drop()

    def pause(self) -> None:
        self.writing.acquire()
        self.reading.acquire()
        self.drop()

    def resume(self) -> None:
        self.reading.release()
        self.writing.release()


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE waits for other writers here, where the busy timeout applies, and not in the middle.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # the disk may be gone; the first error is the one to report
            connection.execute("ROLLBACK")
        raise


def _until_free(action: Callable[[], T]) -> T:
    """Two processes that switch to WAL at once may wait for each other, where SQLite's busy timeout does not help."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _select(reader: sqlite3.Connection, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Any]]:
    marks = ",".join("?" * len(keys))
    return reader.execute(f"SELECT key, response FROM entries WHERE key IN ({marks})", keys)  # noqa: S608


def _select_one(reader: sqlite3.Connection, key: bytes) -> Any:
    try:
        return dict(_select(reader, [key])).get(key)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        return _UNREADABLE


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - called before each write; Path.stat costs twice as much
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _put(writer: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    done = 0
    for size in _ROWS_AT_ONCE:
        while len(rows) - done >= size:
            some = rows[done : done + size]
            marks = ",".join([f"({','.join('?' * len(some[0]))})"] * size)
            writer.execute(_PUT.format(rows=marks), list(chain.from_iterable(some)))
            done += size


def _row(entry: Entry, now: float) -> tuple[Any, ...]:
    response, usage = entry.response, entry.response.usage
    return (
        entry.key,
        entry.namespace,
        now,
        response.model_external or response.model_internal,
        response.finish_reason,
        usage and usage.input_tokens,
        usage and usage.output_tokens,
        usage and usage.cache_read_tokens,
        usage and usage.cache_write_tokens,
        response.cost,
        entry.value,
        entry.request,
    )
