"""Entries in dictionaries of this process."""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import ClassVar

import msgspec

from lm_deluge._per_process import PerProcess
from lm_deluge.cache._batched import batched
from lm_deluge.cache.entry import Blob, Entry, Quarantined, Stored
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores._candidates import in_order
from lm_deluge.cache.stores._leases import Leases
from lm_deluge.canonical import conversation_of
from lm_deluge.errors import CacheError

__all__ = ["MemoryStore"]


class _Kept(msgspec.Struct, gc=False):
    stored: Stored
    refers: tuple[bytes, ...]
    used: float | None = None


class MemoryStore:
    """Entries in dictionaries. Values are encoded bytes, so a change of a response never reaches the cache.

    Values have a dictionary of their own, which lookups read without a lock. Everything else is behind one.
    """

    blocks: ClassVar[bool] = False

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] | None = {}  # None once closed
        self._turn = PerProcess(threading.Lock)
        self._entries: OrderedDict[bytes, _Kept] = OrderedDict()  # in the order of their use, the oldest first
        self._conversations: dict[bytes, set[bytes]] = {}  # the keys of each conversation's entries
        self._blobs = _Blobs()
        self._quarantined: list[tuple[Quarantined, tuple[bytes, ...]]] = []  # with names of blobs
        self._bytes = 0  # of values and requests in service
        self._max_bytes: int | None = None
        self._leases = Leases()
        self._runs: dict[int, Run] = {}

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        values = self._opened()
        return [values.get(key) for key in keys]

    def find_many(
        self, conversations: Sequence[bytes], own: Sequence[Sequence[bytes]]
    ) -> list[list[tuple[bytes, bytes]]]:
        with self._used() as values:
            return [
                [(key, values[key]) for key in in_order(preferred, self._created(conversation))]
                for conversation, preferred in zip(conversations, own, strict=True)
            ]

    def _created(self, conversation: bytes) -> dict[bytes, float]:
        keys = self._conversations.get(conversation, ())
        return {key: self._entries[key].stored.facts.created for key in keys}

    def put_many(self, entries: Sequence[Entry]) -> None:
        with self._used() as values:
            self._put(values, entries)

    def put_if_unchanged(self, entries: Sequence[Entry], found: Sequence[bytes | None]) -> list[bool]:
        with self._used() as values:
            same = [values.get(entry.key) == value for entry, value in zip(entries, found, strict=True)]
            self._put(values, compress(entries, same))
            return same

    def _put(self, values: dict[bytes, bytes], entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._blobs.hold(entry.refers, entry.blobs)
            self._drop(entry.key)
            stored = entry.as_stored()
            self._entries[entry.key] = _Kept(stored, entry.refers)
            self._bytes += stored.size
            self._conversations.setdefault(conversation_of(entry.key), set()).add(entry.key)
            values[entry.key] = entry.value
        self._shrink()

    def quarantine(self, key: bytes, value: object, reason: str) -> bool:
        with self._turn.get():
            if self._opened().get(key) != value or (kept := self._entries.pop(key, None)) is None:
                return False
            self._forget(key)
            self._bytes -= kept.stored.size
            value, request = kept.stored.value, kept.stored.request
            quarantined = Quarantined(key=key, when=time.time(), reason=reason, value=value, request=request)
            self._quarantined.append((quarantined, kept.refers))  # with its blobs, so that its request can be read
            return True

    def delete(self, key: bytes) -> bool:
        return self.delete_many([key]) > 0

    def close(self) -> None:
        with self._turn.get():
            self._values = None
            self._entries.clear()
            self._conversations.clear()
            self._quarantined.clear()
            self._blobs = _Blobs()

    @property
    def location(self) -> str:
        return "memory"

    def __len__(self) -> int:
        return len(self._entries)

    # Scanning

    def scan(self, *, namespace: str | None = None, newest_first: bool = False, batch: int = 256) -> Iterator[Stored]:
        with self._used():
            found = [kept.stored for kept in self._entries.values() if namespace in (None, kept.stored.namespace)]
        if newest_first:
            found.sort(key=lambda stored: stored.facts.created, reverse=True)
        for some in batched(found, batch):
            yield from filter(None, self.read([stored.key for stored in some]))

    def read(self, keys: Sequence[bytes]) -> list[Stored | None]:
        with self._used():
            found = [self._entries.get(key) for key in keys]
        return [None if kept is None else msgspec.structs.replace(kept.stored, used=kept.used) for kept in found]

    def read_blobs(self, names: Sequence[bytes]) -> dict[bytes, bytes]:
        with self._used():
            return {name: data for name in names if (data := self._blobs.get(name)) is not None}

    def delete_many(self, keys: Sequence[bytes]) -> int:
        with self._used():
            return sum([self._drop(key) and self._forget(key) for key in keys])

    def quarantined(self) -> Iterator[Quarantined]:
        self._opened()
        yield from [quarantined for quarantined, _ in self._quarantined]

    def delete_quarantined(self, keys: Sequence[bytes]) -> int:
        with self._used():
            unwanted = set(keys)
            gone = [refers for quarantined, refers in self._quarantined if quarantined.key in unwanted]
            self._quarantined = [kept for kept in self._quarantined if kept[0].key not in unwanted]
            for refers in gone:
                self._blobs.release(refers)
            return len(gone)

    def usage(self) -> Mapping[str, int]:
        with self._used():
            quarantined = sum(len(entry.value) + len(entry.request) for entry, _ in self._quarantined)
            return {
                "entries": len(self._entries),
                "blobs": len(self._blobs),
                "quarantined": len(self._quarantined),
                "bytes": self._bytes + self._blobs.bytes + quarantined,
                "on_disk": 0,
            }

    def verify(self) -> Iterator[str]:
        with self._used():
            missing = self._blobs.missing()
        for name in missing:
            yield f"blob {name.hex()[:16]}… is missing"

    # Leases

    def acquire(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        with self._used():
            return self._leases.acquire(keys, holder, now=now, seconds=seconds)

    def renew(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        with self._used():
            return self._leases.renew(keys, holder, now=now, seconds=seconds)

    def release(self, keys: Sequence[bytes], holder: bytes) -> None:
        with self._used():
            self._leases.release(keys, holder)

    # The limit

    def limit(self, max_bytes: int) -> None:
        with self._turn.get():
            self._max_bytes = max_bytes

    def touch(self, keys: Sequence[bytes], *, now: float) -> None:
        with self._turn.get():
            for key in keys:
                if (kept := self._entries.get(key)) is not None:
                    kept.used = now
                    self._entries.move_to_end(key)

    def _shrink(self) -> None:
        while self._max_bytes is not None and self._entries and self._bytes + self._blobs.bytes > self._max_bytes:
            key = next(iter(self._entries))
            self._drop(key)
            self._forget(key)

    def _drop(self, key: bytes) -> bool:
        """Drop all of an entry but its value, so that a concurrent lookup finds the old or the new one."""
        kept = self._entries.pop(key, None)
        if kept is None:
            return False
        self._bytes -= kept.stored.size
        self._blobs.release(kept.refers)
        return True

    def _forget(self, key: bytes) -> bool:
        """Forget the value of an entry; whether there was one."""
        keys = self._conversations.get(conversation_of(key))
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._conversations[conversation_of(key)]
        return self._opened().pop(key, None) is not None

    # Runs

    def record_run(self, run: Run) -> None:
        with self._used():
            self._runs[run.id] = run

    def runs(self) -> Iterator[Run]:
        with self._used():
            found = sorted(self._runs.values(), key=lambda run: run.started, reverse=True)
        yield from found

    @contextlib.contextmanager
    def _used(self) -> Iterator[dict[bytes, bytes]]:
        """The values, for one caller at a time."""
        with self._turn.get():
            yield self._opened()

    def _opened(self) -> dict[bytes, bytes]:
        if self._values is None:
            raise CacheError("The cache in memory is closed. Make a new one to go on.")
        return self._values


class _Blobs:
    """Blobs by name, each kept as long as an entry or another blob refers to it."""

    def __init__(self) -> None:
        self.bytes = 0
        self._blobs: dict[bytes, Blob] = {}
        self._holders: dict[bytes, int] = {}

    def hold(self, names: Iterable[bytes], blobs: Mapping[bytes, Blob]) -> None:
        """Count one holder more of each blob, and take new blobs from ``blobs``."""
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            self._holders[name] = self._holders.get(name, 0) + 1
            if name not in self._blobs and name in blobs:
                self._blobs[name] = blobs[name]
                self.bytes += len(blobs[name].data)
                waiting.extend(blobs[name].refers)

    def release(self, names: Iterable[bytes]) -> None:
        """Count one holder less of each blob, and drop blobs without holders."""
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            self._holders[name] -= 1
            if not self._holders[name]:
                del self._holders[name]
                if (blob := self._blobs.pop(name, None)) is not None:
                    self.bytes -= len(blob.data)
                    waiting.extend(blob.refers)

    def get(self, name: bytes) -> bytes | None:
        blob = self._blobs.get(name)
        return None if blob is None else blob.data

    def missing(self) -> list[bytes]:
        return [name for name in self._holders if name not in self._blobs]

    def __len__(self) -> int:
        return len(self._blobs)
