"""Rebuilding a damaged file from all that can be read of it. The old one is kept beside it, and never written."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from lm_deluge.cache._batched import batched
from lm_deluge.cache.codec import decode
from lm_deluge.cache.entry import Blob, Entry, Facts, Stored
from lm_deluge.cache.facts import corrected
from lm_deluge.cache.record import refers_of, refers_of_blob
from lm_deluge.cache.stores import RebuildReport
from lm_deluge.cache.stores.sqlite.check import read_blob
from lm_deluge.cache.stores.sqlite.connection import connect
from lm_deluge.cache.stores.sqlite.database import Database
from lm_deluge.cache.stores.sqlite.file import identify
from lm_deluge.cache.stores.sqlite.rows import COLUMNS, QUARANTINED, hide, put, quarantine, quarantined, stored, touch
from lm_deluge.cache.stores.sqlite.runs import read_runs, record_run
from lm_deluge.cache.stores.sqlite.walk import is_damage, select_by_key, walk
from lm_deluge.canonical import KEY_SIZES
from lm_deluge.errors import CacheError, CacheFileError, DamagedEntryError

__all__ = ["rebuild"]

_AT_ONCE = 256


def rebuild(path: Path, now: float) -> RebuildReport:
    """Put a new file in the place of a damaged one.

    Args:
        path: absolute.
        now: seconds since the Unix epoch; they become part of the name under which the old file is kept.

    Raises:
        CacheFileError: the file is missing, empty or not a cache, is open elsewhere, or the new one cannot be
            written. Nothing has changed.
        CacheVersionError: another version of this package wrote it. Nothing has changed.
        CacheError: it is too damaged to be read at all. Nothing has changed.
    """
    is_whole = identify(path)
    kept = path.with_name(f"{path.name}.damaged-{int(now)}")
    new_path = path.with_name(f"{path.name}.new-{os.getpid()}")
    try:
        with _alone(path, is_whole=is_whole) as old:
            new_path.unlink(missing_ok=True)
            new = Database(new_path, synchronous="FULL")
            try:
                entries, lost = _copy(old, new)
            finally:
                new.close()
            new_path.chmod(path.stat().st_mode & 0o777)
            size = path.stat().st_size
            if not is_whole:  # it is still in WAL mode, and its empty WAL must not be taken for the new file's
                path.with_name(f"{path.name}-wal").unlink(missing_ok=True)
            kept.hardlink_to(path)  # not moved, so that the name always has a complete file
            new_path.replace(path)
    except OSError as error:
        raise CacheFileError(f"The cache file {path} cannot be replaced: {error}. It was left as it is.") from error
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise CacheFileError(f"The cache file {path} cannot be read: {error}. It was left as it is.") from error
        raise CacheError(
            f"The cache file {path} is too damaged to be read at all ({error}). Restore it from a copy."
        ) from error
    finally:
        for leftover in (new_path, path.with_name(f"{new_path.name}-wal"), path.with_name(f"{new_path.name}-shm")):
            with contextlib.suppress(OSError):
                leftover.unlink(missing_ok=True)
    return RebuildReport(entries=entries, lost=lost, kept=str(kept), kept_bytes=size)


@contextlib.contextmanager
def _alone(path: Path, *, is_whole: bool) -> Iterator[sqlite3.Connection]:
    """The only connection to a file: no other may be open, and none can be opened until this ends.

    What was in a WAL has been moved into the file, so the file is all there is.

    Raises:
        CacheFileError: it is open elsewhere.
    """
    with closing(connect(path, "mode=rw", damaged=True)) as connection:
        connection.execute("PRAGMA writable_schema = ON")  # else SQLite opens nothing that has fewer pages than it says
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            connection.look()
            if is_whole:
                connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")  # the lock stays
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            raise CacheFileError(
                f"{path} is in use. Close every other program that has it open, and try again."
            ) from error
        yield connection


def _copy(old: sqlite3.Connection, new: Database) -> tuple[int, int]:
    """Copy all that can be read: how many entries were copied, and at least how many could not be."""
    blobs = _Blobs(old)
    # Quarantined entries first: each is stored under its key for a moment, where a good entry may belong.
    for row in walk(old, "set_aside", QUARANTINED):
        found = quarantined(row)
        with new.transaction() as writer:
            put(writer, [blobs.complete(Entry(key=found.key, value=found.value, request=found.request))], {})
            quarantine(writer, found.key, found.value, found.reason, found.when)
    count = holes = 0

    def hole() -> None:
        nonlocal holes
        holes += 1

    entries = (stored(row[1:]) for row in walk(old, "entries", COLUMNS, on_damage=hole))
    for read in batched(entries, _AT_ONCE):
        some = [one for one in read if len(one.key) in KEY_SIZES]
        holes += len(read) - len(some)  # no entries: the rest of a cut page, for example, is zeros
        with new.transaction() as writer:
            put(writer, [blobs.complete(one.as_entry(_facts(one))) for one in some], {})
            touch(writer, [(one.key, one.used) for one in some if one.used is not None])
        count += len(some)
    _copy_rest(old, new)
    return count, max(holes, _hide_lost(old, new))


def _copy_rest(old: sqlite3.Connection, new: Database) -> None:
    with new.transaction() as writer:
        for run in read_runs(old):
            record_run(writer, run)
        try:
            hide(writer, [key for (key,) in old.execute("SELECT key FROM hidden").fetchall()])
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise  # else entries of a base are visible again, and are found to be bad again


def _hide_lost(old: sqlite3.Connection, new: Database) -> int:
    """How many entries are in the old file's index of keys and not in the new file.

    They are marked, so that where the file lies over a base, an older answer of that does not come in their place.
    """
    count = 0
    for some in batched(_indexed(old), _AT_ONCE):
        with new.transaction() as writer:
            there = {key for (key,) in select_by_key(writer, "SELECT key FROM entries WHERE key IN", some)[0]}
            lost = [key for key in some if key not in there]
            hide(writer, lost)
        count += len(lost)
    return count


def _indexed(old: sqlite3.Connection) -> Iterator[bytes]:
    """Keys of entries, read from the index alone, which is on other pages. It is read from both ends, up to damage."""
    last = b""
    for order in ("ASC", "DESC"):
        select = f"SELECT key FROM entries WHERE key > ? ORDER BY key {order}"  # noqa: S608
        try:
            with closing(old.execute(select, (last,))) as cursor:
                for (key,) in cursor:
                    if isinstance(key, bytes) and len(key) in KEY_SIZES:
                        yield key
                        last = key if order == "ASC" else last
            return
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise


def _facts(one: Stored) -> Facts:
    """The facts that the answer tells, because damage may have changed the columns."""
    try:
        return corrected(one.facts, decode(one.key, one.value))
    except DamagedEntryError:
        return one.facts  # a lookup quarantines it


class _Blobs:
    """The blobs of a damaged file, each given out once."""

    def __init__(self, old: sqlite3.Connection) -> None:
        self._old = old
        self._given: set[bytes] = set()

    def complete(self, entry: Entry) -> Entry:
        """An entry with the names of its blobs, which are read from its request, and with the blobs that are new."""
        try:
            refers = refers_of(entry.request) if entry.request else ()
        except DamagedEntryError:
            return entry  # it is served all the same
        blobs: dict[bytes, Blob] = {}
        names = list(refers)
        while wanted := [name for name in names if name not in self._given]:
            self._given.update(wanted)
            names = []
            for digest, cell in select_by_key(self._old, "SELECT digest, data FROM blobs WHERE digest IN", wanted)[0]:
                with contextlib.suppress(DamagedEntryError):  # as good as missing
                    data = read_blob(digest, cell)
                    blobs[digest] = Blob(data, refers_of_blob(data))
                    names += blobs[digest].refers
        return msgspec.structs.replace(entry, refers=refers, blobs=blobs)
