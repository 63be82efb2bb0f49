"""Making a damaged file anew from all that can be read of it."""

import contextlib
import os
import sqlite3
from itertools import islice

import msgspec

from lm_deluge.cache.entry import Blob, Entry, Stored
from lm_deluge.cache.record import refers_of, refers_of_blob
from lm_deluge.cache.stores._sqlite_check import read_blob
from lm_deluge.cache.stores._sqlite_database import Database
from lm_deluge.cache.stores._sqlite_rows import aside, columns, put, set_aside, stored, touch
from lm_deluge.cache.stores._sqlite_runs import read_runs, record_run
from lm_deluge.cache.stores._sqlite_schema import FORMAT
from lm_deluge.cache.stores._sqlite_walk import is_damage, select_by_key, walk
from lm_deluge.errors import CacheFileError, DamagedEntryError

__all__ = ["rebuild"]

_AT_ONCE = 256


def rebuild(database: Database, now: float) -> int:
    """Put a new file in the place of a damaged one, which is kept beside it; how many entries could be read."""
    path = database.path
    kept = path.with_name(f"{path.name}.damaged-{int(now)}")
    new_path = path.with_name(f"{path.name}.new-{os.getpid()}")
    try:
        with database.exclusive() as old:
            new_path.unlink(missing_ok=True)
            new = Database(new_path, synchronous="FULL")
            try:
                count = _copy(old, new)
            finally:
                new.close()
            new_path.chmod(path.stat().st_mode & 0o777)
            kept.hardlink_to(path)  # not moved: there is a whole file under the name at every moment
            new_path.replace(path)
    except OSError as error:
        raise CacheFileError(f"The cache file {path} cannot be replaced: {error}. It was left as it is.") from error
    finally:
        for leftover in (new_path, path.with_name(f"{new_path.name}-wal"), path.with_name(f"{new_path.name}-shm")):
            with contextlib.suppress(OSError):
                leftover.unlink(missing_ok=True)
    return count


def _copy(old: sqlite3.Connection, new: Database) -> int:
    blobs = _Blobs(old)
    # First what was set aside: on its way it is an entry, in the place of the good one that may have its key.
    for row in walk(old, "set_aside", "key, at, reason, response, request"):
        found = aside(row)
        with new.transaction() as writer:
            put(writer, [blobs.complete(Entry(key=found.key, value=found.value, request=found.request))], {})
            set_aside(writer, found.key, found.value, found.reason, found.when)
    count = 0
    entries = (stored(row[1:]) for row in walk(old, "entries", columns(FORMAT)))
    while some := list(islice(entries, _AT_ONCE)):
        with new.transaction() as writer:
            put(writer, [blobs.complete(_entry(one)) for one in some], {})
            touch(writer, [(one.key, one.used) for one in some if one.used is not None])
        count += len(some)
    with new.transaction() as writer:
        for run in read_runs(old):
            record_run(writer, run)
        try:
            writer.executemany("INSERT INTO hidden (key) VALUES (?)", old.execute("SELECT key FROM hidden").fetchall())
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise  # else entries of a base show again, and are found to be bad again
    return count


def _entry(one: Stored) -> Entry:
    return Entry(
        key=one.key,
        value=one.value,
        namespace=one.namespace,
        request=one.request,
        facts=one.facts,
        expires=one.expires,
    )


class _Blobs:
    """The blobs of a damaged file, each given out once."""

    def __init__(self, old: sqlite3.Connection) -> None:
        self._old = old
        self._given: set[bytes] = set()

    def complete(self, entry: Entry) -> Entry:
        """An entry with the names of its blobs, found anew in its request, and those of the blobs that are new."""
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
