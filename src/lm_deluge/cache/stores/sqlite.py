"""Entries in one SQLite file that many threads and processes may use at once.

The file is in WAL mode: readers never wait for the writer, and an entry is committed when ``put_many`` returns, so
killing the process loses nothing that was stored. Before anything is written, the file's header is read as plain bytes,
so a file that is not ours is never touched.
"""

import contextlib
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from lm_deluge.cache._per_process import PerProcess
from lm_deluge.cache.record import Entry
from lm_deluge.cache.stores._sqlite_file import APPLICATION_ID, FORMAT, check_file, create_private
from lm_deluge.errors import CacheFileError

__all__ = ["SqliteStore"]

_BUSY_SECONDS = 60.0
_MAX_VARIABLES = 500  # SQLite's own limit is 32,766; a longer statement is not faster
_KNOWN_BLOBS = 4096

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

_PUT = """
INSERT INTO entries (key, namespace, created, model, finish_reason, input_tokens, output_tokens,
                     cache_read_tokens, cache_write_tokens, cost, response, request)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
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
        path: the file. ``~`` is expanded.
        synchronous: ``"NORMAL"`` survives the death of the process; ``"FULL"`` waits for the disk at each commit and
            survives a power cut as well.

    Raises:
        CacheFileError: the file is not a cache, is truncated, or cannot be written. It is left untouched.
        CacheVersionError: a newer version of this package wrote it. It is left untouched.
    """

    blocks: ClassVar[bool] = True

    def __init__(self, path: str | Path, *, synchronous: Synchronous = "NORMAL") -> None:
        self._path = Path(path).expanduser()
        self._synchronous = synchronous
        self._closed = False
        self._state = PerProcess(_State)
        weakref.finalize(self, _close, self._state)
        check_file(self._path)
        create_private(self._path)
        try:
            self._state.get().writer = self._connect(prepare=True)
        except sqlite3.Error as error:
            self.close()
            raise CacheFileError(
                f"The cache file {self._path} cannot be opened for writing: {error}. "
                "Check that the disk is not full or read-only and that you may write there."
            ) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables in a new file; refuse one that became somebody else's meanwhile.

        It happens before the switch to WAL, so the file itself says from its first moment what it is.
        """
        with _transaction(connection):
            (application_id,) = connection.execute("PRAGMA application_id").fetchone()
            if application_id == APPLICATION_ID:
                return
            if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() != (0,):
                raise CacheFileError(f"{self._path} is an SQLite file of another program. Give another path.")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found: dict[bytes, bytes] = {}
        state = self._state.get()
        with state.reading:
            reader = state.reader = state.reader or self._connect()
            for start in range(0, len(keys), _MAX_VARIABLES):
                some = keys[start : start + _MAX_VARIABLES]
                marks = ",".join("?" * len(some))
                found.update(reader.execute(f"SELECT key, response FROM entries WHERE key IN ({marks})", some))  # noqa: S608
        return [found.get(key) for key in keys]

    def put_many(self, entries: Sequence[Entry]) -> None:
        now = time.time()
        rows = [_row(entry, now) for entry in entries]
        blobs = {digest: data for entry in entries for digest, data in entry.blobs.items()}
        with self._write() as (writer, stored_blobs):
            # Written by this process before, so still there: a shared prefix is not bound again for each entry.
            for digest in stored_blobs & blobs.keys():
                del blobs[digest]
            if blobs:
                writer.executemany("INSERT OR IGNORE INTO blobs (digest, data) VALUES (?, ?)", list(blobs.items()))
            writer.executemany(_PUT, rows)
        if len(stored_blobs) > _KNOWN_BLOBS:
            stored_blobs.clear()
        stored_blobs.update(blobs)

    def set_aside(self, key: bytes, reason: str) -> None:
        with self._write() as (writer, _):
            writer.execute(
                "INSERT INTO damaged (key, set_aside, reason, response, request) "
                "SELECT key, ?, ?, response, request FROM entries WHERE key = ?",
                (time.time(), reason, key),
            )
            writer.execute("DELETE FROM entries WHERE key = ?", (key,))

    def delete(self, key: bytes) -> bool:
        with self._write() as (writer, _):
            return writer.execute("DELETE FROM entries WHERE key = ?", (key,)).rowcount > 0

    def close(self) -> None:
        self._closed = True
        _close(self._state)

    @property
    def location(self) -> str:
        return str(self._path)

    @contextlib.contextmanager
    def _write(self) -> Iterator[tuple[sqlite3.Connection, set[bytes]]]:
        state = self._state.get()
        with state.writing:
            writer = state.writer = state.writer or self._connect()
            with _transaction(writer):
                yield writer, state.stored_blobs

    def _connect(self, *, prepare: bool = False) -> sqlite3.Connection:
        if self._closed:
            raise CacheFileError(f"The cache {self._path} is closed.")
        # Each connection is guarded by its lock, so any thread may use it.
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=16
        )
        if prepare:
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        _until_free(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        return connection


class _State:
    """What one process holds open: a connection that reads and one that writes, each behind its lock."""

    def __init__(self) -> None:
        self.reading = threading.Lock()
        self.writing = threading.Lock()
        self.reader: sqlite3.Connection | None = None
        self.writer: sqlite3.Connection | None = None
        self.stored_blobs: set[bytes] = set()


def _close(held: PerProcess[_State]) -> None:
    if not held.is_own:
        return
    state = held.get()
    with state.reading, state.writing:
        for connection in (state.reader, state.writer):
            if connection is not None:
                connection.close()
        state.reader = state.writer = None


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE waits for other writers here, where the busy timeout applies, and not in the middle.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # the disk may be gone; the first error is the one to report
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _until_free(action: Callable[[], T]) -> T:
    """Switching to WAL takes an exclusive lock, for which SQLite's busy timeout does not wait."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


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
