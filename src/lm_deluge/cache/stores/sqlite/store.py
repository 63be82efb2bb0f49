"""Entries in one SQLite file that many threads and processes may use at once.

An entry is committed when ``put_many`` returns, so killing the process loses nothing that was stored. How the file is
opened, what is in its tables and how it is kept small are in modules of their own; here is what a store does with them.
"""

import contextlib
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

from lm_deluge._clock import Clock, SystemClock
from lm_deluge._exit import at_exit, close_dropped, close_when_dropped, is_in_use
from lm_deluge.cache._batched import batched
from lm_deluge.cache.codec import compress
from lm_deluge.cache.entry import Blob, Entry, Quarantined, Stored
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores import RebuildReport
from lm_deluge.cache.stores.sqlite import leases, rows
from lm_deluge.cache.stores.sqlite.check import problems, read_blob
from lm_deluge.cache.stores.sqlite.database import Database, Synchronous
from lm_deluge.cache.stores.sqlite.eviction import evict, shrink, used_bytes
from lm_deluge.cache.stores.sqlite.file import resolved
from lm_deluge.cache.stores.sqlite.find import find
from lm_deluge.cache.stores.sqlite.rebuild import rebuild
from lm_deluge.cache.stores.sqlite.runs import read_runs, record_run
from lm_deluge.cache.stores.sqlite.touches import Touches
from lm_deluge.cache.stores.sqlite.walk import read_page, select_by_key
from lm_deluge.errors import CacheError, CacheFileError, CacheWarning, ConfigError, DamagedEntryError

__all__ = ["SqliteStore", "Synchronous"]

_UNREADABLE = b""
_SEEN_HELD = 4096
_AT_ONCE = 512  # changes in one transaction, where there may be many


class SqliteStore:
    """One SQLite file, made private (0600, in a directory of 0700) when it is new.

    Args:
        path: the file. ``~`` is expanded, and a relative path is taken from where the process is now. Links are
            followed once: what the path leads to later is not used.
        synchronous: ``"NORMAL"`` survives the death of the process; ``"FULL"`` waits for the disk at each commit and
            survives a power cut as well.
        read_only: never write the file, which has to be there. It may be in a directory that cannot be written, on a
            network file system. All methods that write raise ``CacheFileError``.
        clock: says when something is quarantined; for tests.

    Raises:
        CacheFileError: the file is not a cache, is truncated, is on a network file system, or cannot be written. It is
            left untouched.
        CacheVersionError: another version of this package wrote it. It is left untouched.
        ConfigError: another value of ``synchronous``, or ``":memory:"`` or a URL for the path.
    """

    blocks: ClassVar[bool] = True
    patience: ClassVar[None] = None

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Synchronous = "NORMAL",
        read_only: bool = False,
        clock: Clock | None = None,
    ) -> None:
        if synchronous not in get_args(Synchronous):
            raise ConfigError(f"synchronous is {synchronous!r}; NORMAL or FULL is needed.")
        if str(path) == ":memory:":
            raise ConfigError("SqliteCache needs a file. For a cache in memory use MemoryCache().")
        if re.match(r"[a-z][a-z+.-]+://", str(path)):
            # Not quoted: there may be a password in it.
            raise ConfigError("SqliteCache needs the path of a file, not a URL. For Redis use RedisCache(url).")
        self._synchronous = synchronous
        self._clock = SystemClock() if clock is None else clock
        self._max_bytes: int | None = None
        self._seen: set[bytes] = set()  # blobs that are in the file, unless they have been removed since
        close_dropped()
        self._database = Database(resolved(path), synchronous=synchronous, read_only=read_only)
        self._touches = Touches(self._database)
        close_when_dropped(self, self._touches.close)
        at_exit(self._end)

    # As every store

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._database.reading() as reader:
            return _values(reader, keys)

    def find_many(
        self, conversations: Sequence[bytes], own: Sequence[Sequence[bytes]]
    ) -> list[list[tuple[bytes, bytes]]]:
        with self._database.reading() as reader:
            return find(reader, conversations, own)

    def put_many(self, entries: Sequence[Entry]) -> None:
        self._put({entry.key: entry for entry in entries})

    def put_if_unchanged(self, entries: Sequence[Entry], found: Sequence[bytes | None]) -> list[bool]:
        wanted = {entry.key: entry for entry in entries}
        self._put(wanted, dict(zip(wanted, found, strict=True)))
        return [entry.key in wanted for entry in entries]

    def _put(self, wanted: dict[bytes, Entry], found: Mapping[bytes, bytes | None] | None = None) -> None:
        """Store entries. With ``found``, those under whose keys is something else by now are taken out instead."""
        blobs = {digest: blob for entry in wanted.values() for digest, blob in entry.blobs.items()}
        packed = self._packed(blobs)
        with self._database.transaction() as writer:
            if found is not None:
                for key, value in zip(found, _values(writer, list(found)), strict=True):
                    if value != found[key]:
                        del wanted[key]
            rows.put(writer, wanted.values(), packed)
        if len(self._seen) > _SEEN_HELD:
            self._seen.clear()
        self._seen.update(blobs)
        self._touches.write_some()
        if self._max_bytes is not None:
            self._keep_below(self._max_bytes, list(wanted))

    def quarantine(self, key: bytes, value: object, reason: str, *, hide: bool = False) -> bool:
        """As the protocol says; with ``hide``, an entry of a base under the same key is not served any more either."""
        with self._database.transaction() as writer:
            moved = rows.quarantine(writer, key, value, reason, self._clock.time())
            if moved and hide:
                rows.hide(writer, [key])
            return moved

    def delete(self, key: bytes) -> bool:
        return self.delete_many([key]) > 0

    def close(self) -> None:
        self._touches.close()

    def _end(self) -> None:
        """The interpreter ends. What a daemon thread stores from now on is kept too, so the file stays open for it."""
        if is_in_use():
            self._touches.flush()
        else:
            self.close()

    @property
    def location(self) -> str:
        return str(self._database.path)

    # LeaseStore. A lease need not survive a power cut, because its holder does not.

    def acquire(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        with self._database.transaction(lasting=False) as writer:
            return leases.acquire(writer, keys, holder, now, now + seconds)

    def renew(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        with self._database.transaction(lasting=False) as writer:
            return leases.renew(writer, keys, holder, now, now + seconds)

    def release(self, keys: Sequence[bytes], holder: bytes) -> None:
        with self._database.transaction(lasting=False) as writer:
            leases.release(writer, keys, holder)

    # ScanStore

    def scan(self, *, namespace: str | None = None, newest_first: bool = False, batch: int = 256) -> Iterator[Stored]:
        position: int | None = None
        any_read = damaged = False
        while True:
            # Several short reads, because a long one would keep the WAL from being emptied.
            with self._database.reading() as reader:
                page = read_page(reader, "entries", rows.COLUMNS, after=position, backwards=newest_first, count=batch)
            for row in page.rows:
                entry = rows.stored(row[1:])
                if namespace is None or entry.namespace == namespace:
                    yield entry
            any_read |= bool(page.rows)
            damaged |= page.damaged
            if page.position is None:
                break
            position = page.position
        if damaged and not any_read:
            raise CacheError(f"No entry of {self.location} can be read: the file is damaged. Restore it from a copy.")
        if damaged:
            warnings.warn(
                f"Some entries of {self.location} cannot be read: the file is damaged. "
                "Rebuild it from what can be read with `deluge cache verify --rebuild`, or restore it from a copy.",
                CacheWarning,
                stacklevel=2,
            )

    def read(self, keys: Sequence[bytes]) -> list[Stored | None]:
        with self._database.reading() as reader:
            select = f"SELECT {rows.COLUMNS} FROM entries WHERE key IN"  # noqa: S608
            found, unreadable = select_by_key(reader, select, keys)
        entries = {entry.key: entry for entry in map(rows.stored, found)}
        for key in unreadable:
            entries[key] = Stored(key=key, namespace="", value=_UNREADABLE)
        return [entries.get(key) for key in keys]

    def read_blobs(self, names: Sequence[bytes]) -> dict[bytes, bytes]:
        with self._database.reading() as reader:
            found, _ = select_by_key(reader, "SELECT digest, data FROM blobs WHERE digest IN", names)
        blobs = {}
        for name, cell in found:
            with contextlib.suppress(DamagedEntryError):  # left out, as the protocol says; verify names it
                blobs[name] = read_blob(name, cell)
        return blobs

    def delete_many(self, keys: Sequence[bytes]) -> int:
        return self._remove(rows.remove, keys)

    def quarantined(self) -> Iterator[Quarantined]:
        position: int | None = None
        while True:
            with self._database.reading() as reader:
                page = read_page(reader, "set_aside", rows.QUARANTINED, after=position)
            yield from map(rows.quarantined, page.rows)
            if page.position is None:
                return
            position = page.position

    def delete_quarantined(self, keys: Sequence[bytes]) -> int:
        return self._remove(rows.delete_quarantined, keys)

    def _remove(self, remove: Callable[[sqlite3.Connection, Sequence[bytes]], int], keys: Sequence[bytes]) -> int:
        removed = 0
        for some in batched(dict.fromkeys(keys), _AT_ONCE):
            with self._database.transaction() as writer:
                removed += remove(writer, some)
        shrink(self._database.transaction)
        return removed

    def usage(self) -> Mapping[str, int]:
        with self._database.reading() as reader:
            tables = {"entries": "entries", "blobs": "blobs", "quarantined": "set_aside"}
            counts = {
                name: int(reader.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608
                for name, table in tables.items()
            }
            return {**counts, "bytes": used_bytes(reader), "on_disk": 1}

    def verify(self) -> Iterator[str]:
        database = self._database
        database.check_open()
        try:
            if not (database.path.exists() and database.path.stat().st_size):
                raise CacheFileError(f"There is no cache file {database.path}, or it is empty.")
            # Separate connections, because it may take long.
            own = Database(database.path, synchronous=self._synchronous, read_only=database.read_only)
            try:
                with own.reading() as reader:
                    found = list(problems(reader))
            finally:
                own.close()
        except (CacheError, OSError) as error:
            found = [str(error)]
        yield from found

    def rebuild(self) -> RebuildReport:
        """Rebuild the file from what can be read of it. The old one is kept beside it, with ``.damaged-`` and the
        time behind its name.

        Raises:
            CacheFileError: the file is open elsewhere, or the new one cannot be written. Nothing has changed.
            CacheError: it is too damaged to be read at all.
        """
        with self._database.released():
            return rebuild(self._database.path, self._clock.time())

    @classmethod
    def rebuild_file(cls, path: str | Path, *, clock: Clock | None = None) -> RebuildReport:
        """As ``rebuild``, for a file that is damaged so that it cannot be opened: a truncated one, for example.

        Raises:
            CacheFileError: the file is missing, empty or not a cache, or as in ``rebuild``. Nothing has changed.
            CacheVersionError: another version of this package wrote it. Nothing has changed.
            CacheError: it is too damaged to be read at all. Nothing has changed.
        """
        clock = SystemClock() if clock is None else clock
        return rebuild(resolved(path), clock.time())

    # BoundedStore

    def limit(self, max_bytes: int) -> None:
        if not max_bytes > 0:
            raise ConfigError(f"max_bytes={max_bytes!r} leaves no room; give a number of bytes above 0.")
        self._database.check_writable()
        self._max_bytes = max_bytes
        self._touches.within = 0.0

    def touch(self, keys: Sequence[bytes], *, now: float) -> None:
        self._touches.add(keys, now)

    # JournalStore

    def record_run(self, run: Run) -> None:
        with self._database.transaction() as writer:
            record_run(writer, run)

    def runs(self) -> Iterator[Run]:
        with self._database.reading() as reader:
            found = read_runs(reader)
        yield from found

    # For a store that lies over another one

    def hide(self, entries: Sequence[Stored], reason: str | None = None) -> None:
        """Note that entries of a base are not to be served any more; with a reason, they count as quarantined too."""
        with self._database.transaction() as writer:
            rows.hide(writer, [entry.key for entry in entries])
            if reason is not None:
                rows.note_quarantined(writer, entries, reason, self._clock.time())

    def hidden(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of some keys whose entries in a base are not to be served."""
        with self._database.reading() as reader:
            found, unreadable = select_by_key(reader, "SELECT key FROM hidden WHERE key IN", keys)
        return {*unreadable, *(key for (key,) in found)}

    def _packed(self, blobs: Mapping[bytes, Blob]) -> dict[bytes, bytes]:
        """Blobs that the file does not have, compressed before the transaction begins."""
        unknown = {digest: blob for digest, blob in blobs.items() if digest not in self._seen}
        if not unknown:
            return {}
        with self._database.reading() as reader:
            missing = rows.missing_blobs(reader, unknown)
        return {digest: compress(blob.data) for digest, blob in missing.items()}

    def _keep_below(self, max_bytes: int, new: Sequence[bytes]) -> None:
        with self._database.writing() as writer:
            if used_bytes(writer) <= max_bytes:
                return
        self._touches.write()
        evict(self._database.transaction, max_bytes, new)
        shrink(self._database.transaction)


def _values(connection: sqlite3.Connection, keys: Sequence[bytes]) -> list[bytes | None]:
    found, unreadable = select_by_key(connection, "SELECT key, response FROM entries WHERE key IN", keys)
    values: dict[bytes, Any] = dict(found)
    values.update(dict.fromkeys(unreadable, _UNREADABLE))
    return [values.get(key) for key in keys]
