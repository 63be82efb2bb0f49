"""Checks of stores that say what they hold, keep below a size, or keep the accounts of runs."""

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from lm_deluge.cache.entry import Blob, Entry, Stored
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores import BoundedStore, JournalStore, ScanStore, Store
from lm_deluge.events import RunReport
from lm_deluge.testing._expect import expect
from lm_deluge.testing._store_checks import NOW, Checks, blob_name, entry, key_of
from lm_deluge.usage import Usage

__all__ = ["BoundChecks", "JournalChecks", "ScanChecks"]

# Messages, and nodes of a chain that refer to them and to one another.
_LEAF = Blob(b"a long message " * 100)
_OTHER = Blob(bytes(range(256)) * 40)
_NODE = Blob(b"first node " * 100, (blob_name(_LEAF.data),))
_NEXT = Blob(b"second node " * 100, (blob_name(_NODE.data), blob_name(_OTHER.data)))
_CHAINS = [
    (),
    (_LEAF,),
    (_OTHER,),
    (_NODE, _LEAF),
    (_NEXT, _NODE, _LEAF, _OTHER),
]
_SIZE = 4096
_LIMIT = 2 * 1024 * 1024
_NAMES = {blob_name(blob.data): blob.data for blob in (_LEAF, _OTHER, _NODE, _NEXT)}


class ScanChecks(Checks):
    """Scanning, blobs, and what was quarantined."""

    def test_whole_entries(self, tmp_path: Path) -> None:
        wanted = [entry("a", b"1"), entry("b", b"2", namespace="other", blobs=[_LEAF]), _bare("c")]
        with self.capable(tmp_path, ScanStore) as (store, scanned):
            expect(list(scanned.scan()), [], "a scan of an empty store")
            store.put_many(wanted)
            found = scanned.read([key_of("b"), key_of("none"), key_of("a"), key_of("c")])
            for stored, right in zip(found, [wanted[1], None, wanted[0], wanted[2]], strict=True):
                expect(_without_use(stored), right and _as_stored(right), "an entry that was read whole")
            scan = {stored.key: _without_use(stored) for stored in scanned.scan()}
            expect(scan, {one.key: _as_stored(one) for one in wanted}, "a scan of three entries")

    def test_scans_in_pieces(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ScanStore) as (store, scanned):
            for start in range(0, 100, 10):
                names = range(start, start + 10)
                store.put_many(
                    [entry(name, created=NOW + name, namespace="odd" if name % 2 else "even") for name in names]
                )
            every, odd = {key_of(name) for name in range(100)}, [key_of(name) for name in range(1, 100, 2)]
            for batch in (1, 7, 100, 1000):
                found = [stored.key for stored in scanned.scan(batch=batch)]
                expect(len(found), 100, f"the number of entries that a scan in pieces of {batch} gave")
                expect(set(found), every, f"the entries that a scan in pieces of {batch} gave")
            expect({stored.key for stored in scanned.scan(namespace="odd", batch=7)}, set(odd), "a scan of a namespace")
            newest = [stored.key for stored in scanned.scan(namespace="odd", newest_first=True, batch=7)]
            expect(newest, odd[::-1], "a scan of a namespace, the newest first")
            expect(list(scanned.scan(namespace="none")), [], "a scan of a namespace that is not there")

    def test_changes_during_a_scan(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ScanStore) as (store, scanned):
            store.put_many([entry(name) for name in range(40)])
            found = []
            for number, stored in enumerate(scanned.scan(batch=4)):
                found.append(stored.key)
                store.put_many([entry(f"new {number}")])
                store.delete(key_of(f"new {number - 1}"))
            kept = [key_of(name) for name in range(40)]
            expect([key for key in kept if key not in found], [], "entries that a scan missed while others were stored")
            expect(len(set(found)), len(found), "the number of different entries in a scan while others were stored")

    def test_blobs_are_shared(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ScanStore) as (store, scanned):
            large = Blob(bytes(range(256)) * 4096)
            store.put_many([entry("a", blobs=[_NODE, _LEAF]), entry("b", blobs=[_NODE, _LEAF])])
            store.put_many([entry("c", blobs=[_LEAF]), entry("d", blobs=[large])])
            names = [blob_name(blob.data) for blob in (_LEAF, _OTHER, _NODE, large)]
            found = scanned.read_blobs(names)
            expect(sorted(found), sorted([names[0], names[2], names[3]]), "names of blobs that are there")
            expect(
                {name for name in found if found[name] != {**_NAMES, names[3]: large.data}[name]}, set(), "wrong blobs"
            )
            expect(scanned.usage()["blobs"], 3, "the number of blobs that several entries share")
            scanned.delete_many([key_of("a"), key_of("d")])
            expect(set(scanned.read_blobs([names[0], names[2]])), {names[0], names[2]}, "blobs that others still need")
            expect(list(scanned.verify()), [], "what is wrong with a healthy store")

    def test_blobs_go_with_the_last_that_refers_to_them(self, tmp_path: Path) -> None:
        """Hypothesis stores, replaces and removes entries over a chain of blobs."""
        directories = self.directories(tmp_path)
        names, chains = st.sampled_from("abc"), st.sampled_from(_CHAINS)
        actions = st.one_of(
            st.lists(st.tuples(names, chains), min_size=1, max_size=3),  # put
            st.sets(names, min_size=1),  # delete
        )

        @self.settings
        @given(st.lists(actions, max_size=8))
        def run(sequence: list[list[tuple[str, tuple[Blob, ...]]] | set[str]]) -> None:
            with self.capable(next(directories), ScanStore) as (store, scanned):
                model: dict[str, tuple[Blob, ...]] = {}
                for action in sequence:
                    _apply(action, store, scanned, model)
                    needed = {blob_name(blob.data) for chain in model.values() for blob in chain}
                    found = scanned.read_blobs(list(_NAMES))
                    expect(needed - set(found), set(), "blobs that entries need and that are gone")
                    expect({name for name in found if found[name] != _NAMES[name]}, set(), "blobs that changed")
                    if self.reclaims_blobs:
                        expect(set(found) - needed, set(), "blobs that are not referred to and are still there")
                expect(list(scanned.verify()), [], "what is wrong with a healthy store")

        run()

    def test_deleting_many(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ScanStore) as (store, scanned):
            store.put_many([entry(name) for name in range(1200)])
            gone = [key_of(name) for name in range(1000)]
            expect(scanned.delete_many([*gone, key_of("none"), gone[0]]), 1000, "how many entries were deleted")
            expect(scanned.usage()["entries"], 200, "how many entries are left")
            expect(scanned.delete_many([]), 0, "how many entries were deleted of none")
            expect(
                {stored.key for stored in scanned.scan()}, {key_of(name) for name in range(1000, 1200)}, "what is left"
            )

    def test_what_was_quarantined_is_kept(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ScanStore) as (store, scanned):
            store.put_many([entry("a", b"1", blobs=[_LEAF]), entry("b", b"2")])
            store.quarantine(key_of("a"), b"1", "a reason")
            store.quarantine(key_of("b"), b"2", "another")
            store.put_many([entry("a", b"3")])
            store.quarantine(key_of("a"), b"3", "once more")
            found = list(scanned.quarantined())
            wanted = [(key_of("a"), b"1", "a reason"), (key_of("b"), b"2", "another"), (key_of("a"), b"3", "once more")]
            expect([(one.key, one.value, one.reason) for one in found], wanted, "what is quarantined, the oldest first")
            expect([one.request for one in found], [b"request of " + value for _, value, _ in wanted], "its requests")
            expect(all(one.when > 0 for one in found), True, "whether it is known when it was quarantined")
            expect(list(scanned.scan()), [], "a scan when everything was quarantined")
            usage = scanned.usage()
            expect((usage["entries"], usage["quarantined"]), (0, 3), "how many entries there are, and in quarantine")

    def test_what_was_quarantined_can_be_removed(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ScanStore) as (store, scanned):
            store.put_many([entry("a", b"1", blobs=[_LEAF]), entry("b", b"2", blobs=[_OTHER]), entry("c", b"3")])
            for name, value in (("a", b"1"), ("b", b"2"), ("c", b"3")):
                store.quarantine(key_of(name), value, "a reason")
            store.put_many([entry("a", b"4")])
            store.quarantine(key_of("a"), b"4", "another")
            store.put_many([entry("a", b"5")])
            expect(scanned.delete_quarantined([]), 0, "how much of what was quarantined was removed for no keys")
            found = scanned.delete_quarantined([key_of("a"), key_of("none"), key_of("c"), key_of("a")])
            expect(found, 3, "how much of what was quarantined was removed for two keys, one of which had two")
            left = [one.key for one in scanned.quarantined()]
            expect(left, [key_of("b")], "what is left of what was quarantined")
            expect(store.get_many([key_of("a")]), [b"5"], "an entry in service whose quarantined ones were removed")
            kept = set(scanned.read_blobs(list(_NAMES)))
            expect(blob_name(_OTHER.data) in kept, True, "whether the blob of what is still quarantined is there")
            if self.reclaims_blobs:
                expect(blob_name(_LEAF.data) in kept, False, "whether the blob of what was removed is there")
            expect(list(scanned.verify()), [], "what is wrong with a healthy store")

    def test_usage(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ScanStore) as (store, scanned):
            expect(scanned.usage()["entries"], 0, "how many entries an empty store has")
            store.put_many([entry(name, bytes(range(256)) * 40, blobs=[_LEAF]) for name in range(20)])
            usage = scanned.usage()
            counted = (usage["entries"], usage["blobs"], usage["quarantined"])
            expect(counted, (20, 1, 0), "how many entries, blobs and quarantined entries there are")
            expect(usage["bytes"] > 10_000, True, "whether bytes counts 200 kB of values")

    def test_facts_last(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ScanStore) as (store, _):
            store.put_many([entry("a", b"1", blobs=[_LEAF])])
        self.needs_reopening()
        with self.capable(tmp_path, ScanStore) as (_, scanned):
            found = [_without_use(stored) for stored in scanned.scan()]
            expect(found, [_as_stored(entry("a", b"1"))], "a scan of what an earlier opening stored")
            expect(
                list(scanned.read_blobs(list(_NAMES))), [blob_name(_LEAF.data)], "blobs that an earlier opening stored"
            )


class BoundChecks(Checks):
    """Keeping below a size."""

    def test_the_least_recently_used_go_first(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, BoundedStore) as (store, bounded):
            bounded.limit(_LIMIT)
            self._fill(store, range(200))
            expect(len(self._left(store, range(200))), 200, "how many entries are left that fit below the limit")
            bounded.touch([key_of(name) for name in range(10)], now=NOW + 200)
            last = 200
            while len(self._left(store, range(200))) == 200:
                expect(last * _SIZE <= _LIMIT, True, f"whether entries go once {last} of {_SIZE} bytes were stored")
                self._fill(store, range(last, last + 10))
                expect(len(self._left(store, range(last, last + 10))), 10, "how many of the last ten stored are left")
                last += 10
            gone = sorted(set(range(200)) - self._left(store, range(200)))
            expect(
                gone, list(range(10, 10 + len(gone))), "the first entries to go, when those below 10 were used since"
            )

    def test_it_keeps_below_the_limit(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, BoundedStore) as (store, bounded):
            bounded.limit(_LIMIT)
            self._fill(store, range(1000))
            left = self._left(store, range(1000))
            expect(
                len(left) * _SIZE <= _LIMIT, True, f"whether {len(left)} entries of {_SIZE} bytes are below {_LIMIT}"
            )
            expect(len(left) * _SIZE > _LIMIT / 4, True, f"whether {len(left)} of {_SIZE} bytes make use of {_LIMIT}")

    def test_a_limit_on_what_is_there_already(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, BoundedStore) as (store, bounded):
            self._fill(store, range(1000))
            bounded.limit(_LIMIT)
            self._fill(store, range(1000, 1010))
            left = self._left(store, range(1010))
            expect(
                len(left) * _SIZE <= _LIMIT, True, f"whether {len(left)} entries of {_SIZE} bytes are below {_LIMIT}"
            )
            expect(set(range(1000, 1010)) - left, set(), "entries that were just stored and are gone")

    @staticmethod
    def _fill(store: Store, names: range) -> None:
        for start in names[::10]:
            entries = [entry(name, key_of(name) * (_SIZE // 32), created=NOW + name) for name in names if name >= start]
            store.put_many(entries[:10])

    @staticmethod
    def _left(store: Store, names: range) -> set[int]:
        found = store.get_many([key_of(name) for name in names])
        return {name for name, value in zip(names, found, strict=True) if value is not None}


class JournalChecks(Checks):
    """Accounts of runs."""

    def test_runs(self, tmp_path: Path) -> None:
        report = RunReport(prompts=3, hits=1, calls=2, usage=Usage(input_tokens=5), cost=0.125, seconds=1.5)
        first = Run(id=2**62 + 1, started=NOW, name="näme", tags=("a", "b"), models=("m",))
        second = Run(id=7, started=NOW + 5, report=report)
        with self.capable(tmp_path, JournalStore) as (_, journal):
            expect(list(journal.runs()), [], "the runs of an empty store")
            journal.record_run(first)
            journal.record_run(second)
            expect(list(journal.runs()), [second, first], "runs, the newest first")
            finished = msgspec.structs.replace(first, report=report)
            journal.record_run(finished)
            expect(list(journal.runs()), [second, finished], "runs after one was replaced")
        if self.reopens:
            with self.capable(tmp_path, JournalStore) as (_, journal):
                expect(list(journal.runs()), [second, finished], "runs that an earlier opening stored")


def _apply(
    action: list[tuple[str, tuple[Blob, ...]]] | set[str],
    store: Store,
    scanned: ScanStore,
    model: dict[str, tuple[Blob, ...]],
) -> None:
    if isinstance(action, set):
        there = len(action.intersection(model))
        expect(scanned.delete_many([key_of(name) for name in action]), there, "how many entries were deleted")
        for name in action:
            model.pop(name, None)
    else:
        store.put_many([entry(name, blobs=chain) for name, chain in action])
        model.update(action)


def _bare(name: str) -> Entry:
    """An entry with nothing but what is needed."""
    return Entry(key=key_of(name), value=b"bare")


def _as_stored(one: Entry) -> Stored:
    return Stored(
        key=one.key, namespace=one.namespace, value=one.value, request=one.request, facts=one.facts, expires=one.expires
    )


def _without_use(stored: Stored | None) -> Stored | None:
    return None if stored is None else msgspec.structs.replace(stored, used=None)
