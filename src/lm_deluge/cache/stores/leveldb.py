"""Entries in a LevelDB directory, through ``plyvel``. One process at a time, as LevelDB itself demands.

The first byte of a key says what it names::

    e key              the value of an entry
    r key              its packed request
    i key              its namespace, facts and expiry
    b name             a blob, compressed
    n holder           names of the blobs that an entry, a blob or something set aside refers to
    l name holder      the same the other way round: who refers to a blob
    a time key         what was set aside (``d key`` in files of older versions, which knew neither time nor reason)
    j id               a run
"""

import contextlib
import hashlib
import os
import re
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from lm_deluge._optional import require
from lm_deluge.cache.codec import decompress
from lm_deluge.cache.entry import Entry, Facts, SetAside, Stored
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores._leases import Leases
from lm_deluge.cache.stores._leveldb_links import BLOB, LINK, Links
from lm_deluge.errors import CacheFileError, DamagedEntryError

__all__ = ["LevelDBStore"]

_ENTRY = b"e"
_REQUEST = b"r"
_FACTS = b"i"
_ASIDE = b"a"
_DAMAGED = b"d"
_RUN = b"j"
_FORMAT = b"lm_deluge"
_NAME_BYTES = 32

# The files of a LevelDB, from its "Files" documentation; a start that was cut off leaves some of them.
_FILES = re.compile(r"CURRENT|LOCK|LOG(\.old)?|MANIFEST-\d+|\d+\.(log|ldb|sst|dbtmp)|lost")


class _About(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True, gc=False):
    """What is kept beside the value. Entries of older versions have none."""

    namespace: str = "default"
    facts: Facts = Facts()
    expires: float | None = None


_encoder = msgspec.msgpack.Encoder()
_DECODERS: dict[bytes, tuple[Any, str]] = {
    _FACTS: (msgspec.msgpack.Decoder(_About), "the facts"),
    _ASIDE: (msgspec.msgpack.Decoder(SetAside), "the remains"),
    _RUN: (msgspec.msgpack.Decoder(Run), "the accounts"),
}


class LevelDBStore:
    """A LevelDB directory, made private (0700) when it is new.

    Raises:
        ImportError: ``plyvel`` is missing; the message holds the command that installs it.
        CacheFileError: the directory cannot be opened, is in use, or holds something else. Other files are left
            untouched; in another program's LevelDB, LevelDB itself starts a new log when it looks.
    """

    blocks: ClassVar[bool] = True

    def __init__(self, directory: str | Path) -> None:
        plyvel = require("plyvel", extra="leveldb", purpose="LevelDBCache")
        self._error: type[Exception] = plyvel.Error
        self._unreadable: type[Exception] = plyvel.CorruptionError
        self._pid = os.getpid()
        self._writing = threading.Lock()
        self._leases = Leases()
        self._path = Path(directory).expanduser()
        self._check_directory()
        try:
            self._db: Any = plyvel.DB(str(self._path), create_if_missing=True)
        except plyvel.Error as error:
            raise CacheFileError(
                f"LevelDB cannot open {self._path}: {_said(error)}. LevelDB serves one process at a time; "
                "use SqliteCache for several."
            ) from error
        self._claim()

    def _check_directory(self) -> None:
        """Refuse a place that is not ours before LevelDB writes its own files into it."""
        if not self._path.exists():
            try:
                self._path.mkdir(mode=0o700, parents=True)
            except OSError as error:
                raise CacheFileError(f"The directory {self._path} cannot be made: {error}.") from error
            return
        if not self._path.is_dir():
            raise CacheFileError(f"{self._path} is a file; LevelDBCache needs a directory.")
        try:
            foreign = [child.name for child in self._path.iterdir() if not _FILES.fullmatch(child.name)]
        except OSError as error:
            raise CacheFileError(f"The directory {self._path} cannot be read: {error}.") from error
        if foreign:
            raise CacheFileError(
                f"{self._path} holds files that are not LevelDB's, such as {min(foreign)}. Give an empty directory."
            )

    def _claim(self) -> None:
        try:
            self._check_claim()
        except self._error as error:
            self._db.close()
            raise CacheFileError(
                f"The LevelDB in {self._path} is damaged ({error}). Restore it from a copy, or mend it with "
                "plyvel.repair_db()."
            ) from error

    def _check_claim(self) -> None:
        found = self._db.get(b"format")
        if found == _FORMAT:
            return
        with self._db.iterator(include_value=False) as keys:
            foreign = next(iter(keys), None) is not None
        if found is not None or foreign:
            self._db.close()
            raise CacheFileError(f"{self._path} is a LevelDB of another program. Give another directory.")
        self._db.put(b"format", _FORMAT)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._opened() as db:
            return [self._value(db, key) for key in keys]

    def put_many(self, entries: Sequence[Entry]) -> None:
        with self._written() as (db, batch):
            links = Links(db, batch)
            for entry in {entry.key: entry for entry in entries}.values():
                about = _About(entry.namespace, entry.facts, entry.expires)
                batch.put(_ENTRY + entry.key, entry.value)
                batch.put(_REQUEST + entry.key, entry.request)
                batch.put(_FACTS + entry.key, _encoder.encode(about))
                links.replace(entry.key, entry.refers, entry.blobs)
            links.remove_orphans()

    def set_aside(self, key: bytes, value: object, reason: str) -> bool:
        with self._written() as (db, batch):
            found = self._value(db, key)
            if found is None or found != value:
                return False
            aside = SetAside(
                key=key,
                when=time.time(),
                reason=reason,
                value=found,
                request=self._read_part(db, _REQUEST + key) or b"",
            )
            place = struct.pack(">d", aside.when) + key  # times sort as they are: they are positive
            batch.put(_ASIDE + place, _encoder.encode(aside))
            # What was set aside goes on holding its blobs: without them nobody could tell what was asked.
            links = Links(db, batch)
            links.replace(place, links.of(key), {})
            self._remove(key, batch, links)
            return True

    def delete(self, key: bytes) -> bool:
        return self.delete_many([key]) > 0

    def close(self) -> None:
        # A child's copy has no threads to stop, and closing it could wait for them without end.
        if self._pid == os.getpid():
            self._db.close()

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
        with self._opened() as db:
            return [self._stored(db, key) for key in keys]

    def read_blobs(self, names: Sequence[bytes]) -> dict[bytes, bytes]:
        found = {}
        with self._opened() as db:
            for name in names:
                with contextlib.suppress(DamagedEntryError):  # one that cannot be read is as good as missing
                    if packed := self._read_part(db, BLOB + name):
                        found[name] = decompress(packed)
        return found

    def delete_many(self, keys: Sequence[bytes]) -> int:
        """As the protocol says. Blobs that older versions stored are kept, for it is not known who refers to them."""
        with self._written() as (db, batch):
            links = Links(db, batch)
            there = [key for key in dict.fromkeys(keys) if self._value(db, key) is not None]
            for key in there:
                self._remove(key, batch, links)
            links.remove_orphans()
            return len(there)

    def set_aside_entries(self) -> Iterator[SetAside]:
        for key, value in self._pairs(_DAMAGED):
            yield SetAside(key=key[1:], when=0.0, reason="damaged", value=value)
        for _, packed in self._pairs(_ASIDE):
            if (aside := _decode(_ASIDE, packed)) is not None:
                yield aside

    def delete_set_aside(self, keys: Sequence[bytes]) -> int:
        unwanted, gone = set(keys), 0
        with self._written() as (db, batch):
            links = Links(db, batch)
            for place, _ in self._pairs(_DAMAGED, values=False):
                if place[1:] in unwanted:
                    batch.delete(place)
                    gone += 1
            for place, _ in self._pairs(_ASIDE, values=False):
                if place[-_NAME_BYTES:] in unwanted:
                    batch.delete(place)
                    links.replace(place[1:], (), {})
                    gone += 1
            links.remove_orphans()
        return gone

    def usage(self) -> Mapping[str, int]:
        return {
            "entries": sum(1 for _ in self._pairs(_ENTRY, values=False)),
            "blobs": sum(1 for _ in self._pairs(BLOB, values=False)),
            "set_aside": sum(1 for prefix in (_ASIDE, _DAMAGED) for _ in self._pairs(prefix, values=False)),
            "bytes": sum(file.stat().st_size for file in self._path.iterdir() if file.is_file()),
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
                    if not _is_blob(name, packed):
                        yield f"blob {name.hex()[:16]}… does not hold what its digest says"
                elif kind in _DECODERS and _decode(kind, packed) is None:
                    yield f"{_DECODERS[kind][1]} of {name[-_NAME_BYTES:].hex()[:16]}… do not decode"
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
            batch.put(_RUN + struct.pack(">Q", run.id), _encoder.encode(run))

    def runs(self) -> Iterator[Run]:
        found = filter(None, (_decode(_RUN, packed) for _, packed in self._pairs(_RUN)))
        yield from sorted(found, key=lambda run: run.started, reverse=True)

    # Reading and writing

    def _value(self, db: Any, key: bytes) -> bytes | None:
        try:
            found: bytes | None = db.get(_ENTRY + key)
        except self._unreadable:
            return b""
        return found

    def _read_part(self, db: Any, key: bytes) -> bytes | None:
        """What is kept beside a value; if it cannot be read, that is no reason not to give the value."""
        try:
            found: bytes | None = db.get(key)
        except self._unreadable:
            return None
        return found

    def _stored(self, db: Any, key: bytes) -> Stored | None:
        value = self._value(db, key)
        if value is None:
            return None
        about = _about(self._read_part(db, _FACTS + key))
        return Stored(
            key=key,
            namespace=about.namespace,
            value=value,
            request=self._read_part(db, _REQUEST + key) or b"",
            facts=about.facts,
            expires=about.expires,
        )

    def _remove(self, key: bytes, batch: Any, links: Links) -> None:
        for prefix in (_ENTRY, _REQUEST, _FACTS):
            batch.delete(prefix + key)
        links.replace(key, (), {})

    def _batches(self, newest_first: bool, size: int) -> Iterator[list[bytes]]:
        keys: Iterator[bytes] = (key[1:] for key, _ in self._pairs(_ENTRY, values=False))
        if newest_first:
            created = {key[1:]: _about(packed).facts.created for key, packed in self._pairs(_FACTS)}
            keys = iter(sorted(keys, key=lambda key: created.get(key, 0.0), reverse=True))
        while batch := list(islice(keys, size)):
            yield batch

    def _pairs(
        self, prefix: bytes, *, values: bool = True, check: bool = False, size: int = 256
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys that start with ``prefix``, and what they hold. A few at a time, so that no iterator stays open."""
        after = prefix
        while True:
            options = {"include_value": values, "verify_checksums": check, "include_start": after == prefix}
            with self._opened() as db, db.iterator(start=after, stop=_end(prefix), **options) as found:
                some = [item if values else (item, b"") for item in islice(found, size)]
            yield from some
            if len(some) < size:
                return
            after = some[-1][0]

    @contextlib.contextmanager
    def _written(self) -> Iterator[tuple[Any, Any]]:
        """The database and a batch that is written when the block ends well, for one caller at a time."""
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
                f"LevelDB failed in {self._path}: {_said(error)}. If it is damaged, restore it from a copy, or have "
                "plyvel.repair_db() save what can be read."
            ) from error


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else type(error).__name__
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def _end(prefix: bytes) -> bytes | None:
    """The first key behind all that start with one byte; None for no prefix."""
    return bytes([prefix[0] + 1]) if prefix else None


def _about(packed: bytes | None) -> _About:
    """Facts are for people, so an entry is given without them if they do not decode."""
    return _decode(_FACTS, packed) or _About()


def _decode(kind: bytes, packed: bytes | None) -> Any:
    """What was encoded; None if it does not decode, which ``verify`` reports."""
    try:
        return None if packed is None else _DECODERS[kind][0].decode(packed)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _is_blob(name: bytes, packed: bytes) -> bool:
    try:
        return hashlib.sha256(decompress(packed)).digest() == name
    except DamagedEntryError:
        return False
