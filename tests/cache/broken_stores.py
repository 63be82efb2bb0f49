"""Stores that are each wrong in one way, so that the conformance suite can show that it sees it."""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from lm_deluge.cache.entry import Entry, Facts, Quarantined, Stored
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores.memory import MemoryStore


class DropsTheLast(MemoryStore):
    def put_many(self, entries: Sequence[Entry]) -> None:
        super().put_many(entries[:-1] if len(entries) > 1 else entries)


class GivesValuesInOrderOfKeys(MemoryStore):
    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return super().get_many(sorted(keys))


class AnswersEachKeyOnce(MemoryStore):
    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return super().get_many(list(dict.fromkeys(keys)))


class GivesEmptyForMissing(MemoryStore):
    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [value or b"" for value in super().get_many(keys)]


class KeepsTheFirst(MemoryStore):
    def put_many(self, entries: Sequence[Entry]) -> None:
        super().put_many([entry for entry in entries if self.get_many([entry.key]) == [None]])


class TakesKeysForText(MemoryStore):
    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return super().get_many([key.strip().ljust(32) for key in keys])

    def put_many(self, entries: Sequence[Entry]) -> None:
        super().put_many([_keyed(entry, entry.key.strip().ljust(32)) for entry in entries])


class IgnoresCase(MemoryStore):
    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return super().get_many([key.lower() for key in keys])

    def put_many(self, entries: Sequence[Entry]) -> None:
        super().put_many([_keyed(entry, entry.key.lower()) for entry in entries])


class EndsValuesAtZero(MemoryStore):
    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [value and (value.partition(b"\0")[0] or b"\0") for value in super().get_many(keys)]


class CutsLargeValues(MemoryStore):
    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [value and value[: 512 * 1024] for value in super().get_many(keys)]


class StoresWhatWasChanged(MemoryStore):
    def put_if_unchanged(self, entries: Sequence[Entry], found: Sequence[bytes | None]) -> list[bool]:
        self.put_many(entries)
        return [True] * len(entries)


class LooksBeforeItStores(MemoryStore):
    def put_if_unchanged(self, entries: Sequence[Entry], found: Sequence[bytes | None]) -> list[bool]:
        same = [now == value for now, value in zip(self.get_many([one.key for one in entries]), found, strict=True)]
        time.sleep(0.01)
        self.put_many([entry for entry, is_same in zip(entries, same, strict=True) if is_same])
        return same


class DeletesNothing(MemoryStore):
    def delete(self, key: bytes) -> bool:
        return self.get_many([key]) != [None]


class SaysThatItDeleted(MemoryStore):
    def delete(self, key: bytes) -> bool:
        super().delete(key)
        return True


class QuarantinesWhatWasReplaced(MemoryStore):
    def quarantine(self, key: bytes, value: object, reason: str) -> bool:
        return super().quarantine(key, self.get_many([key])[0], reason)


class ServesWhatWasQuarantined(MemoryStore):
    def quarantine(self, key: bytes, value: object, reason: str) -> bool:
        return self.get_many([key])[0] == value


class NeverCloses(MemoryStore):
    def close(self) -> None:
        pass


class ClosesOnce(MemoryStore):
    def close(self) -> None:
        self._opened()
        super().close()


class IsNotMadeForThreads(MemoryStore):
    """Copies, changes the copy, and puts it in place, while another thread does the same."""

    def put_many(self, entries: Sequence[Entry]) -> None:
        values = dict(self._opened())
        threading.Event().wait(0.0005)  # other threads run meanwhile
        self._values = values | {entry.key: entry.value for entry in entries}


class WholeFile(MemoryStore):
    """Reads a file when it is opened, and writes all of it at each change."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        if path.exists():
            super().put_many([Entry(key=key, value=value) for key, value in msgspec.msgpack.decode(path.read_bytes())])

    def put_many(self, entries: Sequence[Entry]) -> None:
        super().put_many(entries)
        self._path.write_bytes(msgspec.msgpack.encode(list(self._opened().items())))

    def delete(self, key: bytes) -> bool:
        return super().delete(key)  # and does not write


class GivesLeasesToAll(MemoryStore):
    def acquire(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        return [True for _ in keys]


class RefusesItsOwnHolder(MemoryStore):
    def acquire(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        got = super().acquire(keys, b"a" + holder, now=now, seconds=seconds)
        super().release(keys, b"a" + holder)
        taken = super().acquire(keys, b"somebody", now=now, seconds=seconds)
        return [one and other for one, other in zip(got, taken, strict=True)]


class LeasesForEver(MemoryStore):
    def acquire(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        return super().acquire(keys, holder, now=0.0, seconds=seconds)


class ReleasesForAnybody(MemoryStore):
    def release(self, keys: Sequence[bytes], holder: bytes) -> None:
        for key in keys:
            self._leases._held.pop(key, None)


class RenewsForAnybody(MemoryStore):
    def renew(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        return [True for _ in keys]


class DoesNotRenew(MemoryStore):
    def renew(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        return super().renew(keys, holder, now=now, seconds=0.0)


class LooksBeforeItLeases(MemoryStore):
    """Asks whether a lease is free, and takes it a moment later."""

    def acquire(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        free = [self._leases._held.get(key, (holder, now))[0] == holder for key in keys]
        threading.Event().wait(0.002)  # other threads look meanwhile
        for key, one in zip(keys, free, strict=True):
            if one:
                self._leases._held[key] = (holder, now + seconds)
        return free


class KeepsLeasesAmongEntries(MemoryStore):
    def acquire(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        self.put_many([Entry(key=key, value=b"leased") for key in keys])
        return super().acquire(keys, holder, now=now, seconds=seconds)


class LosesFacts(MemoryStore):
    def read(self, keys: Sequence[bytes]) -> list[Stored | None]:
        return [stored and msgspec.structs.replace(stored, facts=Facts()) for stored in super().read(keys)]


class LosesBetweenPieces(MemoryStore):
    def scan(self, *, namespace: str | None = None, newest_first: bool = False, batch: int = 256) -> Iterator[Stored]:
        for number, stored in enumerate(super().scan(namespace=namespace, newest_first=newest_first)):
            if number % (batch + 1) != batch:
                yield stored


class ScansAllNamespaces(MemoryStore):
    def scan(self, *, namespace: str | None = None, newest_first: bool = False, batch: int = 256) -> Iterator[Stored]:
        return super().scan(newest_first=newest_first, batch=batch)


class ScansTheOldestFirst(MemoryStore):
    def scan(self, *, namespace: str | None = None, newest_first: bool = False, batch: int = 256) -> Iterator[Stored]:
        found = list(super().scan(namespace=namespace, newest_first=newest_first, batch=batch))
        return iter(found[::-1] if newest_first else found)


class ScansWhatItChanges(MemoryStore):
    def scan(self, *, namespace: str | None = None, newest_first: bool = False, batch: int = 256) -> Iterator[Stored]:
        at = 0
        while at < len(self._entries):
            yield list(self._entries.values())[at].stored
            at += 2 if at > 10 else 1


class RemovesSharedBlobs(MemoryStore):
    def delete_many(self, keys: Sequence[bytes]) -> int:
        for key in keys:
            for name in self._entries[key].refers if key in self._entries else ():
                self._blobs._blobs.pop(name, None)
        return super().delete_many(keys)


class KeepsAllBlobs(MemoryStore):
    def delete_many(self, keys: Sequence[bytes]) -> int:
        for key in keys:
            if key in self._entries:
                self._blobs.hold(self._entries[key].refers, {})
        return super().delete_many(keys)


class ForgetsWhatItQuarantined(MemoryStore):
    def quarantined(self) -> Iterator[Quarantined]:
        return iter(list(super().quarantined())[-1:])


class RemovesNothingQuarantined(MemoryStore):
    def delete_quarantined(self, keys: Sequence[bytes]) -> int:
        return sum(quarantined.key in keys for quarantined in self.quarantined())


class RemovesWhatIsInServiceToo(MemoryStore):
    def delete_quarantined(self, keys: Sequence[bytes]) -> int:
        self.delete_many(keys)
        return super().delete_quarantined(keys)


class KeepsBlobsOfWhatWasQuarantined(MemoryStore):
    def delete_quarantined(self, keys: Sequence[bytes]) -> int:
        for quarantined, refers in self._quarantined:
            if quarantined.key in keys:
                self._blobs.hold(refers, {})
        return super().delete_quarantined(keys)


class CountsNothing(MemoryStore):
    def usage(self) -> Mapping[str, int]:
        return dict.fromkeys(super().usage(), 0)


class HasNoLimit(MemoryStore):
    def limit(self, max_bytes: int) -> None:
        pass


class RemovesTheNewest(MemoryStore):
    def _shrink(self) -> None:
        self._entries = OrderedDict(reversed(self._entries.items()))
        super()._shrink()
        self._entries = OrderedDict(reversed(self._entries.items()))


class ForgetsWhatWasUsed(MemoryStore):
    def touch(self, keys: Sequence[bytes], *, now: float) -> None:
        pass


class RemovesEverything(MemoryStore):
    def _shrink(self) -> None:
        if self._max_bytes is not None and self._bytes > self._max_bytes:
            self._entries.clear()
            self._opened().clear()
            self._bytes = 0


class KeepsEachAccount(MemoryStore):
    def record_run(self, run: Run) -> None:
        if run.id not in self._runs:
            super().record_run(run)


class GivesTheOldestRunFirst(MemoryStore):
    def runs(self) -> Iterator[Run]:
        return iter(list(super().runs())[::-1])


def _keyed(entry: Entry, key: bytes) -> Entry:
    return msgspec.structs.replace(entry, key=key)
