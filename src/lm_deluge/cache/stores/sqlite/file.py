"""Checks of an SQLite file before it is opened for use: is it ours, complete, of a known version? And making new files.

SQLite itself reads the file, in its immutable mode, which takes no lock and changes nothing. Reading the file with
``open`` would be simpler and wrong: closing any descriptor of a file ends all POSIX locks that this process has on it,
also those of its other caches in the same file (SQLite, "How To Corrupt An SQLite Database File", section 2.2).
"""

import contextlib
import os
import shlex
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from lm_deluge._files import make_private_directories
from lm_deluge._locks import renewed
from lm_deluge._optional import NEWER
from lm_deluge.cache.stores.sqlite.connection import Connection, connect
from lm_deluge.cache.stores.sqlite.mounts import network_file_system
from lm_deluge.cache.stores.sqlite.schema import FORMAT, KEEPS_SHRINKABLE, create
from lm_deluge.cache.stores.sqlite.waits import transaction, when_free
from lm_deluge.errors import CacheFileError, CacheVersionError

__all__ = [
    "check_file",
    "check_shares_memory",
    "create_private",
    "identify",
    "identity",
    "is_being_changed",
    "is_ours",
    "prepare",
    "read_pragma",
    "remedy",
    "resolved",
    "state",
]

_APPLICATION_ID = 0x6C6D6431  # "lmd1"

_SMALLEST_BYTES = 512  # one page of the smallest kind
_LOOKS = 3

_creating = renewed(threading.Lock())


def resolved(path: str | Path) -> Path:
    """The file itself, absolute and without links: SQLite keeps what belongs to it beside it, and not beside a link.

    Raises:
        CacheFileError: its links lead nowhere but to each other.
    """
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # a loop of links raises one or the other
        raise CacheFileError(f"The cache file {path} cannot be found: {error}.") from error
    except ValueError:
        return Path(path).expanduser().absolute()  # a null byte: looking at the file says so


def check_file(path: Path) -> None:
    """Refuse a file that is not a cache of ours, without touching it. A missing or empty file is fine.

    Raises:
        CacheFileError: it is something else, or it is cut short.
        CacheVersionError: another version of this package wrote it.
    """
    for looks_left in reversed(range(_LOOKS)):
        size = _size(path)
        if size == 0:
            return
        if size < _SMALLEST_BYTES:
            raise CacheFileError(
                f"{path} has only {size} bytes, so it is truncated or not an SQLite file. "
                "It was left as it is; restore it from a copy, or give another path."
            )
        if _is_whole(path, size) or is_being_changed(path):
            return
        # Another process may have finished making it meanwhile, so look again.
        if not looks_left:
            raise CacheFileError(
                f"{path} is truncated or damaged: it has {size:,} bytes, and its header says otherwise. "
                f"It was left as it is. Restore it from a copy, or rebuild it from what can be read: {remedy(path)}"
            )


def identify(path: Path) -> bool:
    """Whether a file that is to be rebuilt has all its pages, or will have once SQLite has completed its last change.

    Raises:
        CacheFileError: it is missing or empty, or not a cache of ours. It is left untouched.
        CacheVersionError: another version of this package wrote it. It is left untouched.
    """
    if not _size(path):
        raise CacheFileError(f"{path} is missing or empty, so there is nothing to rebuild.")
    foreign = CacheFileError(f"{path} is not a cache of lm_deluge, so it was left as it is. Give another path.")
    try:
        with closing(connect(path, "mode=ro&immutable=1", damaged=True)) as connection:
            connection.execute("PRAGMA writable_schema = ON")  # else SQLite opens nothing that is truncated
            application_id = read_pragma(connection, "application_id")
            user_version = read_pragma(connection, "user_version")
            if application_id == _APPLICATION_ID and user_version == FORMAT:
                connection.look()
    except (sqlite3.Error, UnicodeError) as error:  # SQLite quotes the schema, which need not be text
        raise foreign from error
    if application_id != _APPLICATION_ID:
        raise foreign
    _check_version(path, user_version)
    return is_being_changed(path) or _is_whole(path, _size(path))


def check_shares_memory(path: Path) -> None:
    """Refuse a path where SQLite's users could not see each other's writes.

    Raises:
        CacheFileError: it is on a network file system.
    """
    kind = network_file_system(path)
    if kind is not None:
        raise CacheFileError(
            f"{path} is on a network file system ({kind}), where SQLite loses writes and damages files, because its "
            "users share no memory. Give a path on a local disk; for several machines use RedisCache."
        )


def remedy(path: Path) -> str:
    """The command that rebuilds a damaged file."""
    return f"deluge cache verify {shlex.quote(str(path))} --rebuild"


def _size(path: Path) -> int:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise CacheFileError(f"The cache file {path} cannot be read: {error}.") from error
    if stat.S_ISDIR(found.st_mode):
        raise CacheFileError(f"{path} is a directory; SqliteCache needs a file.")
    if not stat.S_ISREG(found.st_mode):
        raise CacheFileError(f"{path} is not a regular file; SqliteCache needs one.")
    return found.st_size


def _is_whole(path: Path, size: int) -> bool:
    """Whether a file that is ours has all the pages that its header counts."""
    try:
        with closing(connect(path, "mode=ro&immutable=1")) as connection:
            connection.execute("BEGIN")  # one snapshot, even if another process is making the file
            application_id = read_pragma(connection, "application_id")
            user_version = read_pragma(connection, "user_version")
            whole = read_pragma(connection, "page_count") * read_pragma(connection, "page_size")
            blank = _is_blank(connection)
            if application_id == _APPLICATION_ID and user_version == FORMAT and not is_being_changed(path):
                with contextlib.suppress(sqlite3.DatabaseError, UnicodeError):
                    # A schema that SQLite cannot read runs nothing; using the file tells of the damage.
                    connection.look()
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_CORRUPT:
            return False
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise CacheFileError(f"{path} is not an SQLite file. It was left as it is; give another path.") from error
        raise CacheFileError(f"The cache file {path} cannot be read: {error}.") from error
    except UnicodeError:  # SQLite quotes a damaged schema in its message
        return False
    if blank and not _has_content(path, "-wal"):
        return size >= whole  # a new file of ours, incomplete or in progress: it holds nothing yet
    # The identity is written in one transaction with the tables, so no file of ours has tables without it.
    if application_id != _APPLICATION_ID:
        raise CacheFileError(
            f"{path} is an SQLite file, but not an lm_deluge cache. It was left as it is; give another path."
        )
    _check_version(path, user_version)
    return size >= whole


def _is_blank(connection: Connection) -> bool:
    """Whether a file has no tables and no identity of a program."""
    if read_pragma(connection, "application_id") or read_pragma(connection, "user_version"):
        return False
    return not connection.has_parts()


def read_pragma(connection: sqlite3.Connection, name: str) -> int:
    """The value of a pragma that is a number."""
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _check_version(path: Path, user_version: int) -> None:
    """Refuse tables of another format than this one.

    Raises:
        CacheVersionError: they are newer or older.
    """
    if user_version > FORMAT:
        raise CacheVersionError(
            f"{path} was written by a newer lm_deluge (format {user_version}; this one knows {FORMAT}). "
            f"It was left as it is. {NEWER}"
        )
    if user_version < FORMAT:
        raise CacheVersionError(
            f"{path} was written before the first release of lm_deluge (format {user_version}; this one knows "
            f"{FORMAT}). It was left as it is. Give another path. To keep its answers, export them with the program "
            "that wrote it (deluge cache export), and import them here (deluge cache import)."
        )


def is_being_changed(path: Path) -> bool:
    """Whether a transaction or a checkpoint is in progress or was cut off; SQLite completes or undoes it when it opens.

    Until then the file may be shorter than its header says.
    """
    return _has_content(path, "-journal") or _has_content(path, "-wal")


def _has_content(path: Path, suffix: str) -> bool:
    try:
        return Path(f"{path}{suffix}").stat().st_size > 0
    except FileNotFoundError:
        return False


def prepare(connection: Connection, path: Path, is_wanted: Callable[[], bool]) -> None:
    """Make the tables in a new file; refuse one that became another program's meanwhile.

    It happens before the switch to WAL, so the file itself says what it is from the moment that it has a table.

    Args:
        connection: writes the file.
        path: of the file, for messages.
        is_wanted: as in ``when_free``.

    Raises:
        CacheFileError: it is another program's.
        CacheVersionError: another version of this package made its tables.
    """
    if is_ours(connection, path):
        connection.look()
        return
    if _is_blank(connection):
        connection.execute(KEEPS_SHRINKABLE)
    when_free(connection, "BEGIN IMMEDIATE", is_wanted)
    with transaction(connection):
        if is_ours(connection, path):
            return  # another process was faster
        if not _is_blank(connection):
            raise CacheFileError(f"{path} is an SQLite file of another program. Give another path.")
        create(connection)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")


def is_ours(connection: Connection, path: Path) -> bool:
    """Whether the file has our tables.

    Raises:
        CacheVersionError: another version of this package made them.
    """
    if read_pragma(connection, "application_id") != _APPLICATION_ID:
        return False
    _check_version(path, read_pragma(connection, "user_version"))
    return True


def create_private(path: Path) -> None:
    """Make the file (0600) and its directory (0700) if they are missing. An empty file becomes private too.

    Raises:
        CacheFileError: they cannot be made, or the file cannot be written.
    """
    try:
        # Another thread must not open what is made here before the descriptor is closed; see the head of this module.
        with _creating:
            make_private_directories(path.parent)
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            except FileExistsError:
                found = path.stat()
                if found.st_size == 0 and stat.S_IMODE(found.st_mode) & 0o077:
                    path.chmod(0o600)
        if not os.access(path, os.W_OK):
            raise PermissionError("it is read-only for this user")
    except OSError as error:
        raise CacheFileError(f"The cache file {path} cannot be made or written: {error}.") from error


def identity(path: Path) -> tuple[int, ...] | None:
    """Which file is at a path; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called before each write; Path.stat costs twice as much
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def state(path: Path) -> tuple[int, ...] | None:
    """A value that changes when the file is written, or when a write begins."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, is_being_changed(path)
