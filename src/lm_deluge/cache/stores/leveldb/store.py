"""Entries in a LevelDB directory, through ``plyvel``. One process at a time, as LevelDB itself demands.

The first byte of a key says what it names::

    e key              the value of an entry
    r key              its packed request
    i key              its namespace, facts and expiry
    b name             a blob, compressed
    n holder           names of the blobs that an entry, a blob or something quarantined refers to
    l name holder      the same the other way round: who refers to a blob
    a time key         what was quarantined
    j id               a run
"""

import contextlib
import os
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress, islice
from pathlib import Path
from typing import Any, ClassVar

from lm_deluge._files import make_private_directories
from lm_deluge._optional import require
from lm_deluge.cache._batched import batched
from lm_deluge.cache.codec import decompress
from lm_deluge.cache.entry import Entry, Quarantined, Stored
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores._leases import Leases
from lm_deluge.cache.stores.leveldb.files import check_directory, copy_privately, files_in, in_use, said_by
from lm_deluge.cache.stores.leveldb.links import BLOB, LINK, Links
from lm_deluge.cache.stores.leveldb.reader import Reader
from lm_deluge.cache.stores.leveldb.values import (
    DECODERS,
    ENTRY,
    FACTS,
    QUARANTINED,
    REQUEST,
    RUN,
    About,
    about_of,
    decode,
    encode,
    end_of,
    is_blob,
)
from lm_deluge.errors import CacheFileError, CacheVersionError, DamagedEntryError

__all__ = ["LevelDBStore"]

_FORMAT = b"lm_deluge"
_NAME_BYTES = 32
_AT_ONCE = 256  # pairs
_PLACE_AT = len(QUARANTINED) + 8  # where the key of what was quarantined begins, behind the time

_open_here: "weakref.WeakSet[LevelDBStore]" = weakref.WeakSet()  # and not only a copy of it


class LevelDBStore:
    """A LevelDB directory, made private (0700) when it is new.

    Args:
        directory: the database's directory.
        read_only: read a private copy of it, which is made now and removed by ``close``. The directory has to be there,
            and stays as it is. All methods that write raise ``CacheFileError``.

    Raises:
        ImportError: ``plyvel`` is missing; the message holds the command that installs it.
        CacheFileError: the directory cannot be opened, is in use, or holds something else: other files, or links. They
            are left untouched; in another program's LevelDB, LevelDB itself starts a new log when it looks.
        CacheVersionError: it is of a format that was never released.
    """

    blocks: ClassVar[bool] = True
    patience: ClassVar[None] = None

    def __init__(self, directory: str | Path, *, read_only: bool = False) -> None:
        plyvel = self._plyvel = require("plyvel", extra="leveldb", purpose="LevelDBCache")
        self._error: type[Exception] = plyvel.Error
        self._pid = os.getpid()
        self._writing = threading.Lock()
        self._leases = Leases()
        self._path = Path(directory).expanduser().absolute()
        self._read_only = read_only
        self._identity: tuple[int, int] | None = None
        self._let_go: Callable[[], object] = lambda: None
        self._db: Any = self._open_copy() if read_only else self._open()
        self._reader = Reader(self._db, plyvel.CorruptionError)
        self._claim()

    def _open(self) -> Any:
        """Open the database. The directory is checked before LevelDB writes its own files into it."""
        if self._path.exists():
            if not self._path.is_dir():
                raise CacheFileError(f"{self._path} is a file; LevelDBCache needs a directory.")
            check_directory(self._path)
        try:
            make_private_directories(self._path)
        except OSError as error:
            raise CacheFileError(f"The directory {self._path} cannot be made: {error}.") from error
        database = self._opened_by_leveldb(self._path, create_if_missing=True)
        try:
            check_directory(self._path)  # what was put there meanwhile must not stay in use
            self._identity = self._path.stat().st_ino, self._path.stat().st_dev
        except BaseException:
            database.close()
            raise
        _open_here.add(self)
        return database

    def _open_copy(self) -> Any:
        """Open a copy of the directory, because opening a LevelDB changes it."""
        if not self._path.is_dir():
            raise CacheFileError(f"There is no LevelDB directory {self._path} to read.")
        identity = self._path.stat().st_ino, self._path.stat().st_dev
        if any(store._identity == identity for store in list(_open_here)):
            raise in_use(self._path, "this process has it open")
        copy = contextlib.ExitStack()
        with copy:
            database = self._opened_by_leveldb(copy.enter_context(copy_privately(self._path)), create_if_missing=False)
            self._let_go = weakref.finalize(self, copy.pop_all().close)
        return database

    def _opened_by_leveldb(self, place: Path, *, create_if_missing: bool) -> Any:
        try:
            return self._plyvel.DB(str(place), create_if_missing=create_if_missing)
        except self._error as error:
            raise in_use(self._path, said_by(error)) from error

    def _claim(self) -> None:
        try:
            self._check_claim()
        except BaseException as error:
            self.close()
            if not isinstance(error, self._error):
                raise
            raise CacheFileError(
                f"The LevelDB in {self._path} is damaged ({error}). Restore it from a copy, or mend it with "
                "plyvel.repair_db()."
            ) from error

    def _check_claim(self) -> None:
        found = self._db.get(b"format")
        if found == _FORMAT:
            if self._has_any(ENTRY) and not self._has_any(FACTS):
                raise CacheVersionError(
                    f"{self._path} was written before the first release of lm_deluge. Give another directory. To keep "
                    "its answers, export them with the program that wrote it (deluge cache export), and import them "
                    "here (deluge cache import)."
                )
            return
        if found is not None or self._has_any(b""):
            raise CacheFileError(f"{self._path} is a LevelDB of another program. Give another directory.")
        if self._read_only:
            raise CacheFileError(f"{self._path} holds no cache yet.")
        self._db.put(b"format", _FORMAT)

    def _has_any(self, prefix: bytes) -> bool:
        with self._db.iterator(prefix=prefix, include_value=False) as keys:
            return next(iter(keys), None) is not None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._opened():
            return [self._reader.value(key) for key in keys]

    def find_many(
        self, conversations: Sequence[bytes], own: Sequence[Sequence[bytes]]
    ) -> list[list[tuple[bytes, bytes]]]:
        with self._opened():
            return [self._reader.find(*asked) for asked in zip(conversations, own, strict=True)]

    def put_many(self, entries: Sequence[Entry]) -> None:
        with self._written() as (db, batch):
            self._put(db, batch, entries)

    def put_if_unchanged(self, entries: Sequence[Entry], found: Sequence[bytes | None]) -> list[bool]:
        with self._written() as (db, batch):
            same = [self._reader.value(entry.key) == value for entry, value in zip(entries, found, strict=True)]
            self._put(db, batch, compress(entries, same))
            return same

    def quarantine(self, key: bytes, value: object, reason: str) -> bool:
        with self._written() as (db, batch):
            found = self._reader.value(key)
            if found is None or found != value:
                return False
            quarantined = Quarantined(
                key=key, when=time.time(), reason=reason, value=found, request=self._reader.part(REQUEST + key) or b""
            )
            place = struct.pack(">d", quarantined.when) + key  # positive times sort by their bytes
            batch.put(QUARANTINED + place, encode(quarantined))
            # A quarantined entry keeps its blobs, so that its request can be read.
            links = Links(db, batch)
            links.replace(place, links.of(key), {})
            self._remove(key, batch, links)
            return True

    def delete(self, key: bytes) -> bool:
        return self.delete_many([key]) > 0

    def close(self) -> None:
        # A forked child has no threads to stop, and close() could wait for them without end.
        if self._pid == os.getpid():
            self._db.close()
            _open_here.discard(self)
            self._let_go()

    @property
    def location(self) -> str:
        return str(self._path)

    # Scanning

    def scan(self, *, namespace: str | None = None, newest_first: bool = False, batch: int = 256) -> Iterator[Stored]:
        """As the protocol says. There is no index by time, so ``newest_first`` looks at all facts before it begins."""
        for keys in self._batches(newest_first, batch):
            for stored in self.read(keys):
                if stored is not None and namespace in (None, stored.namespace):
                    yield stored

    def read(self, keys: Sequence[bytes]) -> list[Stored | None]:
        with self._opened():
            return [self._reader.stored(key) for key in keys]

    def read_blobs(self, names: Sequence[bytes]) -> dict[bytes, bytes]:
        found = {}
        with self._opened():
            for name in names:
                with contextlib.suppress(DamagedEntryError):  # one that cannot be read is as good as missing
                    if packed := self._reader.part(BLOB + name):
                        found[name] = decompress(packed)
        return found

    def delete_many(self, keys: Sequence[bytes]) -> int:
        with self._written() as (db, batch):
            links = Links(db, batch)
            there = [key for key in dict.fromkeys(keys) if self._reader.value(key) is not None]
            for key in there:
                self._remove(key, batch, links)
            links.remove_orphans()
            return len(there)

    def quarantined(self) -> Iterator[Quarantined]:
        for _, packed in self._pairs(QUARANTINED):
            if (quarantined := decode(QUARANTINED, packed)) is not None:
                yield quarantined

    def delete_quarantined(self, keys: Sequence[bytes]) -> int:
        unwanted, gone = set(keys), 0
        with self._written() as (db, batch):
            links = Links(db, batch)
            for place, _ in self._pairs(QUARANTINED, values=False):
                if place[_PLACE_AT:] in unwanted:
                    batch.delete(place)
                    links.replace(place[1:], (), {})
                    gone += 1
            links.remove_orphans()
        return gone

    def usage(self) -> Mapping[str, int]:
        return {
            "entries": sum(1 for _ in self._pairs(ENTRY, values=False)),
            "blobs": sum(1 for _ in self._pairs(BLOB, values=False)),
            "quarantined": sum(1 for _ in self._pairs(QUARANTINED, values=False)),
            "bytes": sum(files_in(self._path).values()),
            "on_disk": 1,
        }

    def verify(self) -> Iterator[str]:
        """As the protocol says. Reads the whole database with its checksums."""
        known: set[bytes] = set()
        try:
            for key, packed in self._pairs(b"", check=True):
                kind, name = key[:1], key[1:]
                if kind == BLOB:
                    known.add(name)
                    if not is_blob(name, packed):
                        yield f"blob {name.hex()[:16]}… does not hold what its digest says"
                elif kind in DECODERS and decode(kind, packed) is None:
                    named = key[_PLACE_AT:] if kind == QUARANTINED else name
                    yield f"{DECODERS[kind][1]} of {named.hex()[:16]}… do not decode"
            missing = {key[1 : 1 + _NAME_BYTES] for key, _ in self._pairs(LINK, values=False)} - known
        except CacheFileError as error:
            yield str(error)
            return
        for name in sorted(missing):
            yield f"blob {name.hex()[:16]}… is missing"

    # Leases. No other process can have the directory open, so they need not be in it.

    def acquire(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        with self._opened(), self._writing:
            return self._leases.acquire(keys, holder, now=now, seconds=seconds)

    def renew(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        with self._opened(), self._writing:
            return self._leases.renew(keys, holder, now=now, seconds=seconds)

    def release(self, keys: Sequence[bytes], holder: bytes) -> None:
        with self._opened(), self._writing:
            self._leases.release(keys, holder)

    # Runs

    def record_run(self, run: Run) -> None:
        with self._written() as (_, batch):
            batch.put(RUN + struct.pack(">Q", run.id), encode(run))

    def runs(self) -> Iterator[Run]:
        found = filter(None, (decode(RUN, packed) for _, packed in self._pairs(RUN)))
        yield from sorted(found, key=lambda run: run.started, reverse=True)

    # Reading and writing

    def _put(self, db: Any, batch: Any, entries: Iterable[Entry]) -> None:
        links = Links(db, batch)
        for entry in {entry.key: entry for entry in entries}.values():
            about = About(entry.namespace, entry.facts, entry.expires)
            batch.put(ENTRY + entry.key, entry.value)
            batch.put(REQUEST + entry.key, entry.request)
            batch.put(FACTS + entry.key, encode(about))
            links.replace(entry.key, entry.refers, entry.blobs)
        links.remove_orphans()

    def _remove(self, key: bytes, batch: Any, links: Links) -> None:
        for prefix in (ENTRY, REQUEST, FACTS):
            batch.delete(prefix + key)
        links.replace(key, (), {})

    def _batches(self, newest_first: bool, size: int) -> Iterator[list[bytes]]:
        keys: Iterator[bytes] = (key[1:] for key, _ in self._pairs(ENTRY, values=False))
        if newest_first:
            created = {key[1:]: about_of(packed).facts.created for key, packed in self._pairs(FACTS)}
            keys = iter(sorted(keys, key=lambda key: created.get(key, 0.0), reverse=True))
        return batched(keys, size)

    def _pairs(self, prefix: bytes, *, values: bool = True, check: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Keys that start with ``prefix``, and what they hold. A few at a time, so that no iterator stays open."""
        after = prefix
        while True:
            options = {"include_value": values, "verify_checksums": check, "include_start": after == prefix}
            with self._opened() as db, db.iterator(start=after, stop=end_of(prefix), **options) as found:
                some = [item if values else (item, b"") for item in islice(found, _AT_ONCE)]
            yield from some
            if len(some) < _AT_ONCE:
                return
            after = some[-1][0]

    @contextlib.contextmanager
    def _written(self) -> Iterator[tuple[Any, Any]]:
        """The database and a batch that is written when the block ends well, for one caller at a time."""
        if self._read_only:
            raise CacheFileError(f"The cache {self._path} is open for reading only, so it cannot be written.")
        with self._opened() as db, self._writing, db.write_batch(transaction=True) as batch:
            yield db, batch

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        if self._pid != os.getpid():
            raise CacheFileError(
                f"{self._path} was opened before this process was forked, and LevelDB serves one process at a time. "
                "Use SqliteCache for several."
            )
        if self._db.closed:
            raise CacheFileError(f"The cache {self._path} is closed. Make a new one to go on.")
        try:
            yield self._db
        except self._error as error:
            raise CacheFileError(
                f"LevelDB failed in {self._path}: {said_by(error)}. If it is damaged, restore it from a copy, or have "
                "plyvel.repair_db() save what can be read."
            ) from error
