"""One SQLite file in use: a connection that reads and one that writes, each behind its lock.

The file is in WAL mode: readers never wait for the writer. The file is checked before it is opened for use, so a file
that is not ours is never touched. Connections are closed for each fork, and opened again when they are needed.
"""

import contextlib
import shlex
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from lm_deluge.cache._forks import close_before_fork
from lm_deluge.cache.stores.sqlite.connection import Connection, connect
from lm_deluge.cache.stores.sqlite.file import (
    check_file,
    check_shares_memory,
    create_private,
    identity,
    is_being_changed,
    is_ours,
    prepare,
    read_pragma,
    remedy,
    state,
)
from lm_deluge.cache.stores.sqlite.waits import BUSY_SECONDS, GivesWay, transaction, when_free
from lm_deluge.cache.stores.sqlite.walk import is_damage
from lm_deluge.errors import CacheError, CacheFileError

__all__ = ["Database", "Synchronous"]

_WAL_BYTES = 8 * 1024 * 1024  # size to which a large WAL is cut, once it is empty

_EMPTY_SECONDS = 5.0

# Connections that were in use at a fork. The child must neither close them nor open their files.
_abandoned: list[object] = []
_abandoned_files: set[tuple[int, ...]] = set()

Synchronous = Literal["NORMAL", "FULL"]


class Database:
    """A file and this process's connections to it. ``close`` closes them, and so does each fork.

    Args:
        path: absolute.
        synchronous: as SQLite understands it.
        read_only: whether it is never written, nor anything beside it if that can be avoided. Then it has to be there.

    Raises:
        CacheFileError: the file is not a cache, is truncated, or cannot be opened. It is left untouched.
        CacheVersionError: another version of this package wrote it. It is left untouched.
    """

    def __init__(self, path: Path, *, synchronous: Synchronous = "NORMAL", read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._synchronous = synchronous
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._reader: Connection | None = None
        self._writer: Connection | None = None
        self._identity: tuple[int, ...] | None = None  # of the file that is open
        self._log: tuple[int, ...] | None = None  # of its WAL
        self._is_wanted = False  # by a fork
        self._is_abandoned = False
        self.closed = False
        close_before_fork(self)
        ready, lock = (self._ready_to_read, self._reading) if read_only else (self._ready_to_write, self._writing)
        with self._ready(lock, "opened", ready, damaged=CacheFileError):
            pass

    def reading(self) -> AbstractContextManager[Connection]:
        """The connection that reads, for one caller at a time."""
        return self._ready(self._reading, "read", self._ready_to_read)

    def writing(self) -> AbstractContextManager[Connection]:
        """The connection that writes, for one caller at a time and in no transaction."""
        self.check_writable()
        return self._ready(self._writing, "written", self._ready_to_write)

    @contextlib.contextmanager
    def transaction(self, *, lasting: bool = True) -> Iterator[Connection]:
        """The connection that writes, in a transaction that is committed at the end.

        Args:
            lasting: whether it has to survive a power cut where ``synchronous`` says that writes do.
        """
        hurried = not lasting and self._synchronous == "FULL"
        while True:
            with self.writing() as writer:
                if hurried:
                    writer.execute("PRAGMA synchronous = NORMAL")
                try:
                    # IMMEDIATE waits for other writers here, and not later in the transaction.
                    when_free(writer, "BEGIN IMMEDIATE", self._wanted)
                except GivesWay:
                    pass
                else:
                    with transaction(writer):
                        yield writer
                    return
                finally:
                    if hurried:
                        writer.execute("PRAGMA synchronous = FULL")
            self._until_forked()

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Close all connections of this process for the duration of the block."""
        self.check_open()
        self.check_writable()
        self.pause()
        try:
            yield
        finally:
            self.resume()

    @property
    def is_in_place(self) -> bool:
        """Whether the file is still there, and not another one in its place."""
        found = identity(self.path)
        return found is not None and (self._writer is None or found == self._identity)

    def check_open(self) -> None:
        """Refuse to use what is closed.

        Raises:
            CacheFileError: it is.
        """
        if self.closed:
            raise CacheFileError(f"The cache {self.path} is closed.")
        if self._is_abandoned:
            raise CacheFileError(self._busy_at_fork())

    def _busy_at_fork(self) -> str:
        return (
            f"Another thread used {self.path} all the time while this process was forked, so it cannot be used here. "
            'Fork when the cache is idle, or start processes with multiprocessing.get_context("spawn").'
        )

    def check_writable(self) -> None:
        """Refuse to write what is open for reading only.

        Raises:
            CacheFileError: it is.
        """
        if self.read_only:
            raise CacheFileError(f"The cache {self.path} is open for reading only, so it cannot be written.")

    def close(self) -> None:
        self.closed = True
        with self._writing, self._reading:
            self._drop()

    def pause(self, seconds: float = -1) -> bool:
        until = time.monotonic() + seconds
        self._is_wanted = True
        try:
            if not self._writing.acquire(timeout=seconds):
                return False
            if not self._reading.acquire(timeout=seconds if seconds < 0 else max(0.0, until - time.monotonic())):
                self._writing.release()
                return False
        finally:
            self._is_wanted = False
        self._drop()
        return True

    def resume(self) -> None:
        self._reading.release()
        self._writing.release()

    def abandon(self) -> None:
        self._is_abandoned = True
        self._reading, self._writing = threading.Lock(), threading.Lock()
        # Closing them would take the file's log away from the parent, and opening the file again would do so later.
        _abandoned.append((self._reader, self._writer))
        self._reader = self._writer = None
        if self._identity is not None:
            _abandoned_files.add(self._identity[:2])

    @contextlib.contextmanager
    def _ready(
        self,
        lock: threading.Lock,
        done: str,
        ready: Callable[[], Connection],
        *,
        damaged: type[CacheError] = CacheError,
    ) -> Iterator[Connection]:
        """A connection behind its lock. While it waits for other programs, it gives way to a fork."""
        while True:
            if self.closed or self._is_abandoned:
                self.check_open()
            try:
                with lock:
                    try:
                        connection = ready()
                    except GivesWay:
                        pass
                    else:
                        yield connection
                        return
            except (sqlite3.DatabaseError, UnicodeError) as error:
                told = self._reported(error, done, damaged)
                if told is error:
                    raise
                raise told from error
            self._until_forked()

    def _wanted(self) -> bool:
        return self._is_wanted

    def _until_forked(self) -> None:
        while self._is_wanted:
            time.sleep(0.001)

    def _ready_to_read(self) -> Connection:
        if self.read_only and self._reader is not None and self._identity != state(self.path):
            self._drop()  # the file was written, or is being written: what is remembered of the file may be wrong
        if self._reader is None:
            self._reader = self._open_to_read() if self.read_only else self._connect()
            if not self.read_only and self._writer is None:
                self._note(self._reader)
        return self._reader

    def _ready_to_write(self) -> Connection:
        if self._identity is not None and self._identity != identity(self.path):
            with self._reading:
                self._let_go()
        if self._writer is None:
            self._writer = self._open()
            with self._reading:
                # Now, while it is certain that both have the same file.
                self._reader = self._reader or self._connect()
        return self._writer

    def _note(self, connection: Connection) -> None:
        """Remember which file is open."""
        read_pragma(connection, "user_version")  # the first read makes SQLite create the log
        self._identity = identity(self.path)
        self._log = identity(self._log_path)

    @property
    def _log_path(self) -> Path:
        return Path(f"{self.path}-wal")

    def _let_go(self) -> None:
        """The file was removed or replaced. What is written to the old one would be lost, so it is left.

        Raises:
            CacheFileError: another program does not let its log be emptied.
        """
        if not self._empty_log(_EMPTY_SECONDS):
            raise CacheFileError(
                f"{self.path} was replaced or removed while it was in use, and another program still reads the old "
                f"file. Close all programs that use it, and remove {self._log_path}."
            )
        self._drop()
        self._identity = self._log = None

    def _empty_log(self, seconds: float) -> bool:
        """Remove the log of a file that is no longer at its path. False if that is not possible.

        SQLite would lay it over the file that has come there. It does not empty it itself when it closes a file that
        has moved.
        """
        connection = self._writer or self._reader
        if self.read_only or connection is None or self._identity == identity(self.path):
            return True
        if self._log is None or self._log != identity(self._log_path):
            return True  # it was moved with the file, or another user removed it first
        deadline = time.monotonic() + seconds
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        # Removed because programs with the old file open would go on writing to it.
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        return True

    def _drop(self) -> None:
        try:
            with contextlib.suppress(sqlite3.Error, OSError):  # the disk may be gone
                self._empty_log(0.0)
        finally:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._reader = self._writer = None

    def _open(self) -> Connection:
        check_file(self.path)
        check_shares_memory(self.path)
        create_private(self.path)
        writer = self._connect()
        writer.execute("PRAGMA busy_timeout = 0")  # see when_free
        if self._reader is None:
            self._note(writer)
        return writer

    def _connect(self) -> Connection:
        while True:
            before = identity(self.path)
            if before in _abandoned_files:
                raise CacheFileError(self._busy_at_fork())
            connection = self._sqlite("mode=rw")  # never makes a file; create_private does
            try:
                prepare(connection, self.path, self._wanted)
                if before != identity(self.path):
                    connection.close()  # it was replaced while we waited for it
                    continue
                when_free(connection, "PRAGMA journal_mode = WAL", self._wanted)
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
            except BaseException:
                connection.close()
                raise
            return connection

    def _sqlite(self, parameters: str) -> Connection:
        self.check_open()  # it may have been closed while we waited for the lock
        return connect(self.path, parameters, timeout=BUSY_SECONDS)

    def _open_to_read(self) -> Connection:
        if not self.path.exists():
            raise CacheFileError(f"There is no cache file {self.path} to read.")
        check_file(self.path)
        self._identity = state(self.path)
        # While it is not being written, the file is all there is, and SQLite's immutable mode reads it without making
        # anything beside it: in a directory that may not be written, and on a network file system too.
        quiet = not is_being_changed(self.path)
        if not quiet:
            check_shares_memory(self.path)
            if identity(self.path) in _abandoned_files:
                raise CacheFileError(self._busy_at_fork())
        connection = self._sqlite("mode=ro&immutable=1" if quiet else "mode=ro")
        try:
            if not is_ours(connection, self.path):
                raise CacheFileError(f"{self.path} holds no cache yet.")
            connection.look()
        except BaseException:
            connection.close()
            raise
        return connection

    def _reported(self, error: Exception, done: str, damaged: type[CacheError]) -> Exception:
        """SQLite's errors about the file as errors of this package; those about one entry stay as they are."""
        if isinstance(error, sqlite3.OperationalError):
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                return CacheFileError(
                    f"A statement in {self.path} took longer than one may in a file of its size, and was given up. "
                    f"Check the file: deluge cache verify {shlex.quote(str(self.path))}"
                )
            return CacheFileError(
                f"The cache file {self.path} cannot be {done}: {error}. Check that it is still there, that the disk "
                "is not full or read-only, and that no other program keeps it locked."
            )
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_AUTH:
            return CacheFileError(
                f"A statement in {self.path} was not allowed ({error}): it would run what the file itself says. The "
                "file was left as it is."
            )
        if isinstance(error, sqlite3.DatabaseError) and not is_damage(error):
            return error
        # SQLite quotes a damaged schema in its message, and Python cannot read that if it is no text.
        return damaged(
            f"The cache file {self.path} is damaged ({error}). Restore it from a copy, or rebuild it from what "
            f"can be read: {remedy(self.path)}"
        )
