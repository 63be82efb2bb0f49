"""One SQLite file in use: a connection that reads and one that writes, each behind its lock.

The file is in WAL mode: readers never wait for the writer. Before anything is written, the file is looked at without
opening it for use, so a file that is not ours is never touched. Connections are closed for each fork, and opened again
when they are needed.
"""

import contextlib
import os
import random
import shlex
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from lm_deluge.cache._forks import close_before_fork
from lm_deluge.cache.record import refers_of, refers_of_blob
from lm_deluge.cache.stores._sqlite_connection import Connection, connect
from lm_deluge.cache.stores._sqlite_file import (
    APPLICATION_ID,
    check_file,
    check_shares_memory,
    check_version,
    create_private,
    is_being_changed,
    is_blank,
    read_pragma,
    remedy,
)
from lm_deluge.cache.stores._sqlite_schema import FORMAT, KEEPS_SHRINKABLE, Reference, create, references, upgrade
from lm_deluge.cache.stores._sqlite_walk import is_damage
from lm_deluge.errors import CacheError, CacheFileError

__all__ = ["Database", "Synchronous"]

_BUSY_SECONDS = 60.0
_WAL_BYTES = 8 * 1024 * 1024  # to which a WAL that has grown beyond need is cut, once it has been emptied
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 0.008

Synchronous = Literal["NORMAL", "FULL"]


class Database:
    """A file and this process's connections to it. What is opened is closed by ``close``, and at each fork.

    Args:
        path: absolute.
        synchronous: as SQLite understands it.
        read_only: whether it is never written, nor anything beside it if that can be avoided. Then it has to be there.

    Raises:
        CacheFileError: the file is not a cache, is truncated, or cannot be opened. It is left untouched.
        CacheVersionError: a newer version of this package wrote it. It is left untouched.
    """

    def __init__(self, path: Path, *, synchronous: Synchronous = "NORMAL", read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self.format = FORMAT  # a file that is only read may have an older one
        self._synchronous = synchronous
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._reader: Connection | None = None
        self._writer: Connection | None = None
        self._identity: tuple[int, ...] | None = None  # of the file that is open
        self.closed = False
        close_before_fork(self)
        with self._writing, self._reading, self._reported("opened", damaged=CacheFileError):
            if read_only:
                self._reader = self._open_to_read()
            else:
                self._open()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """The connection that reads, for one caller at a time."""
        self.check_open()
        with self._reading, self._reported("read"):
            if self.read_only and self._reader is not None and self._identity != _state(self.path):
                self._drop()  # somebody writes, or has written: what is remembered of the file may be wrong
            if self._reader is None:
                self._reader = self._open_to_read() if self.read_only else self._connect()
            yield self._reader

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """The connection that writes, for one caller at a time and in no transaction."""
        self.check_open()
        self.check_writable()
        with self._writing, self._reported("written"):
            if self._writer is not None and self._identity != _identity(self.path):
                # Somebody removed or replaced the file. What is written to the old one would be lost, so a new one is
                # begun.
                with self._reading:
                    self._drop()
            yield self._writer or self._open()

    @contextlib.contextmanager
    def transaction(self, *, lasting: bool = True) -> Iterator[Connection]:
        """The connection that writes, in a transaction that is committed at the end.

        Args:
            lasting: whether it has to survive a power cut where ``synchronous`` says that writes do.
        """
        with self.writing() as writer:
            hurried = not lasting and self._synchronous == "FULL"
            if hurried:
                writer.execute("PRAGMA synchronous = NORMAL")
            try:
                with _transaction(writer):
                    yield writer
            finally:
                if hurried:
                    writer.execute("PRAGMA synchronous = FULL")

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """No connection of this process has the file open until this ends."""
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
        found = _identity(self.path)
        return found is not None and (self._writer is None or found == self._identity)

    def check_open(self) -> None:
        """Refuse to use what is closed.

        Raises:
            CacheFileError: it is.
        """
        if self.closed:
            raise CacheFileError(f"The cache {self.path} is closed.")

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

    def pause(self) -> None:
        self._writing.acquire()
        self._reading.acquire()
        self._drop()

    def resume(self) -> None:
        self._reading.release()
        self._writing.release()

    def _drop(self) -> None:
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._reader = self._writer = None

    def _open(self) -> Connection:
        check_file(self.path)
        check_shares_memory(self.path)
        create_private(self.path)
        self._writer = self._connect()
        self._writer.execute("PRAGMA busy_timeout = 0")  # see _when_free
        self._identity = _identity(self.path)
        return self._writer

    def _connect(self) -> Connection:
        while True:
            before = _identity(self.path)
            connection = self._sqlite("mode=rw")  # never makes a file: that is create_private's to do
            try:
                self._prepare(connection)
                if before != _identity(self.path):
                    connection.close()  # it was replaced while we waited for it
                    continue
                _when_free(connection, "PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
            except BaseException:
                connection.close()
                raise
            return connection

    def _sqlite(self, parameters: str) -> Connection:
        self.check_open()  # it may have been closed while we waited for the lock
        return connect(self.path, parameters, timeout=_BUSY_SECONDS)

    def _prepare(self, connection: Connection) -> None:
        """Make the tables in a new file, bring old ones up to date; refuse a file that became somebody else's.

        It happens before the switch to WAL, so the file itself says what it is from the moment that it has a table.
        """
        found = self._found_format(connection)
        if found:
            connection.look()
        if found == FORMAT:
            return
        if found:
            self._upgrade(connection)
            return
        if is_blank(connection):
            connection.execute(KEEPS_SHRINKABLE)
        with _transaction(connection):
            if self._found_format(connection):
                return  # another process was faster
            if not is_blank(connection):
                raise CacheFileError(f"{self.path} is an SQLite file of another program. Give another path.")
            create(connection)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")

    def _upgrade(self, connection: Connection) -> None:
        version = read_pragma(connection, "data_version")
        try:
            found = references(connection, refers_of, refers_of_blob)  # it takes long, so before anybody has to wait
        except sqlite3.OperationalError:
            if self._found_format(connection) == FORMAT:
                return  # another process was faster, and the tables are others now
            raise
        try:
            self._write_upgrade(connection, found, version)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            # Pages that would have to change are damaged. Without references, blobs only stay longer than needed.
            self._write_upgrade(connection, [], None)

    def _write_upgrade(self, connection: Connection, found: Sequence[Reference], version: int | None) -> None:
        with _transaction(connection):
            if self._found_format(connection) == FORMAT:
                return  # another process was faster
            if version not in (None, read_pragma(connection, "data_version")):
                found = references(connection, refers_of, refers_of_blob)  # somebody has written meanwhile
            with connection.after_one_look():
                upgrade(connection, found)
            connection.execute(f"PRAGMA user_version = {FORMAT}")

    def _found_format(self, connection: Connection) -> int:
        """The version of our tables; 0 if there are none."""
        if read_pragma(connection, "application_id") != APPLICATION_ID:
            return 0
        found = read_pragma(connection, "user_version")
        check_version(self.path, found)
        return found

    def _open_to_read(self) -> Connection:
        if not self.path.exists():
            raise CacheFileError(f"There is no cache file {self.path} to read.")
        check_file(self.path)
        self._identity = _state(self.path)
        # While nobody writes, the file is all there is, and SQLite's immutable mode reads it without making anything
        # beside it: in a directory that may not be written, and on a network file system too.
        quiet = not is_being_changed(self.path)
        if not quiet:
            check_shares_memory(self.path)
        connection = self._sqlite("mode=ro&immutable=1" if quiet else "mode=ro")
        try:
            found = self._found_format(connection)
            if not found:
                raise CacheFileError(f"{self.path} holds no cache yet.")
            connection.look()
            self.format = found
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _reported(self, done: str, *, damaged: type[CacheError] = CacheError) -> Iterator[None]:
        """Turn SQLite's errors about the file into ours; those about one entry stay as they are."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise CacheFileError(
                    f"A statement in {self.path} took longer than one may in a file of its size, and was given up. "
                    f"Check the file: deluge cache verify {shlex.quote(str(self.path))}"
                ) from error
            raise CacheFileError(
                f"The cache file {self.path} cannot be {done}: {error}. Check that it is still there, that the disk "
                "is not full or read-only, and that no other program keeps it locked."
            ) from error
        except (sqlite3.DatabaseError, UnicodeError) as error:
            if not isinstance(error, UnicodeError) and not is_damage(error):
                raise
            # SQLite quotes a damaged schema in its message, and Python cannot read that if it is no text.
            raise damaged(
                f"The cache file {self.path} is damaged ({error}). Restore it from a copy, or make it anew from what "
                f"can be read: {remedy(self.path)}"
            ) from error


@contextlib.contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    # IMMEDIATE waits for other writers here, and not in the middle.
    _when_free(connection, "BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # the disk may be gone; the first error is the one to report
            connection.execute("ROLLBACK")
        raise


def _when_free(connection: Connection, statement: str) -> None:
    """Execute a statement once nobody else has the lock that it needs.

    SQLite itself looks again after up to a tenth of a second, in which others take the lock many times over: among
    eight busy processes one waits for seconds. And where two switch to WAL at once, its waiting does not help at all.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    pause = _SHORTEST_PAUSE
    while True:
        try:
            connection.execute(statement).fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(pause * random.random())
        pause = min(2 * pause, _LONGEST_PAUSE)


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - called before each write; Path.stat costs twice as much
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _state(path: Path) -> tuple[int, ...] | None:
    """What differs once somebody has written to the file or has begun to."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, is_being_changed(path)
