"""Checks of stores with leases."""

import time
from collections.abc import Sequence
from pathlib import Path

from lm_deluge.cache.stores import LeaseStore, ScanStore
from lm_deluge.testing._expect import expect, in_threads
from lm_deluge.testing._store_checks import NOW, Checks, entry, key_of

__all__ = ["LeaseChecks"]

_LONG = 60.0
_SHORT = 0.5  # real seconds, for stores with a clock of their own
_PATIENCE = 10.0


class LeaseChecks(Checks):
    """One holder at a time, and none for ever."""

    def test_a_lease_has_one_holder(self, tmp_path: Path) -> None:
        a, b, c = map(key_of, "abc")
        with self.capable(tmp_path, LeaseStore) as (_, store):
            expect(store.acquire([a, b], b"one", now=NOW, seconds=_LONG), [True, True], "leases that are free")
            expect(store.acquire([c, a, b], b"two", now=NOW, seconds=_LONG), [True, False, False], "leases of another")
            expect(store.acquire([a], b"one", now=NOW + 1, seconds=_LONG), [True], "a lease that is one's own already")
            expect(store.acquire([], b"one", now=NOW, seconds=_LONG), [], "no leases")

    def test_a_lease_is_given_back_by_its_holder_alone(self, tmp_path: Path) -> None:
        key = key_of("a")
        with self.capable(tmp_path, LeaseStore) as (_, store):
            store.acquire([key], b"one", now=NOW, seconds=_LONG)
            store.release([key, key_of("none")], b"two")
            expect(
                store.acquire([key], b"two", now=NOW, seconds=_LONG), [False], "a lease that another tried to release"
            )
            store.release([key], b"one")
            expect(store.acquire([key], b"two", now=NOW, seconds=_LONG), [True], "a lease that was released")
            store.release([key], b"one")
            expect(
                store.acquire([key], b"one", now=NOW, seconds=_LONG), [False], "a lease released by its former holder"
            )

    def test_a_lease_runs_out(self, tmp_path: Path) -> None:
        key = key_of("a")
        with self.capable(tmp_path, LeaseStore) as (_, store):
            seconds = self._short()
            store.acquire([key], b"dead", now=NOW, seconds=seconds)
            expect(self._acquire_later(store, [key], b"alive", seconds), [True], "a lease whose holder is silent")
            now = NOW + 2 * seconds
            expect(
                store.renew([key], b"dead", now=now, seconds=_LONG), [False], "renewing a lease that another has now"
            )
            store.release([key], b"dead")
            expect(store.acquire([key], b"dead", now=now, seconds=_LONG), [False], "a lease that another has now")

    def test_a_lease_that_is_renewed_lasts(self, tmp_path: Path) -> None:
        a, b = map(key_of, "ab")
        with self.capable(tmp_path, LeaseStore) as (_, store):
            seconds = self._short()
            store.acquire([a, b], b"one", now=NOW, seconds=seconds)
            expect(store.renew([key_of("none")], b"one", now=NOW, seconds=_LONG), [False], "renewing what one has not")
            expect(store.renew([a], b"two", now=NOW, seconds=_LONG), [False], "renewing the lease of another")
            later = NOW + seconds / 2
            expect(store.renew([a], b"one", now=later, seconds=_LONG), [True], "renewing one's own lease")
            expect(self._acquire_later(store, [b], b"two", seconds), [True], "a lease that was not renewed")
            at = NOW + 2 * seconds
            expect(store.acquire([a], b"two", now=at, seconds=_LONG), [False], "a lease that was renewed")

    def test_leases_are_no_entries(self, tmp_path: Path) -> None:
        key = key_of("a")
        with self.capable(tmp_path, LeaseStore) as (store, leases):
            leases.acquire([key], b"one", now=NOW, seconds=_LONG)
            expect(store.get_many([key]), [None], "a lookup of a key that has a lease and no entry")
            if isinstance(store, ScanStore):
                expect(list(store.scan()), [], "a scan where there are leases and no entries")
            store.put_many([entry("a")])
            expect(leases.acquire([key], b"two", now=NOW, seconds=_LONG), [False], "a lease after its entry was stored")
            leases.release([key], b"one")
            expect(store.get_many([key]), [b"value"], "an entry after its lease was released")

    def test_of_many_threads_one_gets_the_lease(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, LeaseStore) as (_, store):
            for round_ in range(5):
                key = key_of(round_)
                holders = [f"holder {number}".encode() for number in range(6)]
                asking = [
                    lambda key=key, holder=holder: store.acquire([key], holder, now=NOW, seconds=_LONG)
                    for holder in holders
                ]
                got = in_threads(asking)
                expect(sorted(got), [[False]] * 5 + [[True]], "who of six threads got the lease of one key")

    def test_the_lease_of_a_killed_process(self, tmp_path: Path) -> None:
        key = key_of("a")
        with self.capable(tmp_path, LeaseStore) as (_, store):
            seconds = 3 * self._short()
            child = self.start_child(tmp_path, "lease", key.hex(), NOW, seconds)
            with child:
                try:
                    said = child.stdout.readline() if child.stdout else ""
                    got = store.acquire([key], b"alive", now=NOW, seconds=_LONG)
                finally:
                    child.kill()
            expect(said, "[True]\n", "the other process acquiring a lease")
            expect(got, [False], "a lease that another process has")
            expect(
                self._acquire_later(store, [key], b"alive", seconds), [True], "the lease of a process that was killed"
            )

    def _short(self) -> float:
        return _SHORT if self.own_clock else 5.0

    def _acquire_later(self, store: LeaseStore, keys: Sequence[bytes], holder: bytes, seconds: float) -> list[bool]:
        """Ask once leases of that length have run out."""
        if not self.own_clock:
            return store.acquire(keys, holder, now=NOW + 1.5 * seconds, seconds=_LONG)
        deadline = time.monotonic() + seconds + _PATIENCE
        while True:
            got = store.acquire(keys, holder, now=NOW, seconds=_LONG)
            if all(got) or time.monotonic() > deadline:
                return got
            time.sleep(0.01)
