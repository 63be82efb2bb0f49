"""The shipped conformance suite over every store, and over broken stores, each of which it must catch."""

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lm_deluge.cache.stores import BoundedStore, ConditionalStore, JournalStore, LeaseStore, ScanStore, Store
from lm_deluge.cache.stores.leveldb import LevelDBStore
from lm_deluge.cache.stores.mapping import MappingStore
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.stores.redis import RedisStore
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import CacheError
from lm_deluge.testing import StoreConformance

from . import broken_stores as broken
from .redis_server import RedisServer


class TestSqlite(StoreConformance):
    def make(self, path: Path) -> Store:
        return SqliteStore(path / "cache.db")

    def opening(self, path: Path) -> str:
        return f"from lm_deluge.cache.stores.sqlite import SqliteStore; store = SqliteStore({str(path / 'cache.db')!r})"


class TestLevelDB(StoreConformance):
    shares: ClassVar[bool] = False

    def make(self, path: Path) -> Store:
        pytest.importorskip("plyvel")
        return LevelDBStore(path / "cache")


class TestMemory(StoreConformance):
    reopens: ClassVar[bool] = False
    shares: ClassVar[bool] = False

    def make(self, path: Path) -> Store:
        return MemoryStore()


class TestMapping(StoreConformance):
    def make(self, path: Path) -> Store:
        data: dict[Path, dict[str, Any]] = self.__dict__.setdefault("_data", {})
        return MappingStore(data.setdefault(path, {}), "default")


class TestRedis(StoreConformance):
    own_clock: ClassVar[bool] = True
    reclaims_blobs: ClassVar[bool] = False

    @pytest.fixture(autouse=True)
    def server(self, redis_server: RedisServer) -> None:
        self.url = redis_server.url

    def make(self, path: Path) -> Store:
        return RedisStore(self.url, prefix=str(path))

    def opening(self, path: Path) -> str:
        arguments = f"{self.url!r}, prefix={str(path)!r}"
        return f"from lm_deluge.cache.stores.redis import RedisStore; store = RedisStore({arguments})"


def test_what_each_store_can_do() -> None:
    capabilities = (ConditionalStore, LeaseStore, ScanStore, BoundedStore, JournalStore)
    able = {
        kind.__name__: [one.__name__ for one in capabilities if _offers(kind, one)]
        for kind in (SqliteStore, MemoryStore, LevelDBStore, RedisStore, MappingStore)
    }
    assert able == {
        "SqliteStore": ["ConditionalStore", "LeaseStore", "ScanStore", "BoundedStore", "JournalStore"],
        "MemoryStore": ["ConditionalStore", "LeaseStore", "ScanStore", "BoundedStore", "JournalStore"],
        "LevelDBStore": ["ConditionalStore", "LeaseStore", "ScanStore", "JournalStore"],
        "RedisStore": ["ConditionalStore", "LeaseStore", "ScanStore", "JournalStore"],
        "MappingStore": [],
    }


def _offers(kind: type, capability: type) -> bool:
    wanted = [name for name in vars(capability) if not name.startswith("_") and callable(getattr(capability, name))]
    return all(hasattr(kind, name) for name in wanted)


BROKEN: list[tuple[type[MemoryStore], str, str]] = [
    (broken.DropsTheLast, "any_bytes", "values that were just stored"),
    (broken.GivesValuesInOrderOfKeys, "order_and_repetition", "among many"),
    (broken.AnswersEachKeyOnce, "order_and_repetition", "the number of answers"),
    (broken.GivesEmptyForMissing, "what_was_stored_is_found_and_nothing_else", "an empty store: expected [None]"),
    (broken.KeepsTheFirst, "the_last_one_stored_counts", "one entry replaced"),
    (broken.TakesKeysForText, "keys_that_look_alike", "before it is stored: expected [None]"),
    (broken.IgnoresCase, "keys_that_look_alike", "before it is stored: expected [None]"),
    (broken.EndsValuesAtZero, "any_bytes", "values that were just stored"),
    (broken.CutsLargeValues, "a_large_value", "lengths of a large and a small value: expected [1048576, 1]"),
    (broken.DeletesNothing, "deleting", "one entry deleted, one not"),
    (broken.SaysThatItDeleted, "deleting", "deleting what is not there: expected False, found True"),
    (broken.SaysThatItDeleted, "any_sequence", "delete in a sequence of calls"),
    (broken.QuarantinesWhatWasReplaced, "only_what_was_found_is_quarantined", "replaced meanwhile"),
    (broken.ServesWhatWasQuarantined, "only_what_was_found_is_quarantined", "lookups after quarantining one"),
    (broken.StoresWhatWasChanged, "what_others_stored_since_a_lookup_stays", "of four entries"),
    (broken.LooksBeforeItStores, "of_many_threads_one_stores_if_unchanged", "how many of six threads"),
    (broken.NeverCloses, "closing", "get_many after close raised nothing"),
    (broken.IsNotMadeForThreads, "threads", "stored"),
    (broken.GivesLeasesToAll, "a_lease_has_one_holder", "leases of another"),
    (broken.RefusesItsOwnHolder, "a_lease_has_one_holder", "one's own already"),
    (broken.LeasesForEver, "a_lease_runs_out", "a lease whose holder is silent: expected [True], found [False]"),
    (broken.ReleasesForAnybody, "a_lease_is_given_back_by_its_holder_alone", "another tried to release"),
    (broken.RenewsForAnybody, "a_lease_that_is_renewed_lasts", "renewing what one has not"),
    (broken.DoesNotRenew, "a_lease_that_is_renewed_lasts", "a lease that was renewed: expected [False], found [True]"),
    (broken.LooksBeforeItLeases, "of_many_threads_one_gets_the_lease", "who of six threads"),
    (broken.KeepsLeasesAmongEntries, "leases_are_no_entries", "has a lease and no entry"),
    (broken.LosesFacts, "whole_entries", "an entry that was read whole"),
    (broken.LosesBetweenPieces, "scans_in_pieces", "a scan in pieces of 1 gave: expected 100"),
    (broken.ScansAllNamespaces, "scans_in_pieces", "a scan of a namespace"),
    (broken.ScansTheOldestFirst, "scans_in_pieces", "the newest first"),
    (broken.ScansWhatItChanges, "changes_during_a_scan", "missed while others were stored"),
    (broken.RemovesSharedBlobs, "blobs_are_shared", "blobs that others still need"),
    (broken.RemovesSharedBlobs, "blobs_go_with_the_last_that_refers_to_them", "blobs that"),
    (broken.KeepsAllBlobs, "blobs_go_with_the_last_that_refers_to_them", "that are not referred to"),
    (broken.ForgetsWhatItQuarantined, "what_was_quarantined_is_kept", "what is quarantined, the oldest first"),
    (broken.RemovesNothingQuarantined, "what_was_quarantined_can_be_removed", "what is left of what was quarantined"),
    (broken.RemovesWhatIsInServiceToo, "what_was_quarantined_can_be_removed", "an entry in service"),
    (broken.KeepsBlobsOfWhatWasQuarantined, "what_was_quarantined_can_be_removed", "the blob of what was removed"),
    (broken.CountsNothing, "usage", "how many entries, blobs and quarantined entries"),
    (broken.HasNoLimit, "it_keeps_below_the_limit", "are below"),
    (broken.HasNoLimit, "the_least_recently_used_go_first", "whether entries go"),
    (broken.RemovesTheNewest, "a_limit_on_what_is_there_already", "just stored and are gone"),
    (broken.ForgetsWhatWasUsed, "the_least_recently_used_go_first", "the first entries to go"),
    (broken.RemovesEverything, "the_least_recently_used_go_first", "the last ten stored"),
    (broken.KeepsEachAccount, "runs", "after one was replaced"),
    (broken.GivesTheOldestRunFirst, "runs", "the newest first"),
]


@pytest.mark.parametrize(("kind", "check", "said"), BROKEN, ids=lambda one: getattr(one, "__name__", None))
def test_a_broken_store_is_caught(kind: type[MemoryStore], check: str, said: str, tmp_path: Path) -> None:
    class Suite(TestMemory):
        examples: ClassVar[int] = 25

        def make(self, path: Path) -> Store:
            return kind()

    with pytest.raises(AssertionError) as caught:
        getattr(Suite(), f"test_{check}")(tmp_path)
    assert said in str(caught.value)


def test_a_store_that_cannot_be_closed_twice_is_caught(tmp_path: Path) -> None:
    class Suite(TestMemory):
        def make(self, path: Path) -> Store:
            return broken.ClosesOnce()

    with pytest.raises(CacheError, match="is closed"):
        Suite().test_closing(tmp_path)


def test_a_store_that_forgets_is_caught(tmp_path: Path) -> None:
    class Suite(TestMemory):
        reopens: ClassVar[bool] = True

    with pytest.raises(AssertionError, match=r"what was stored 1 openings ago: expected \[b'0'"):
        Suite().test_reopening(tmp_path)


class OfWholeFile(StoreConformance):
    def make(self, path: Path) -> Store:
        return broken.WholeFile(path / "data")

    def opening(self, path: Path) -> str:
        here = str(Path(__file__).parent)
        return (
            f"import sys; sys.path.insert(0, {here!r}); from broken_stores import WholeFile; from pathlib import Path; "
            f"store = WholeFile(Path({str(path / 'data')!r}))"
        )


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ("reopening", "what an earlier opening took away"),
        ("two_open_at_once", "what the other one stored"),
        ("processes", "process"),
        ("the_lease_of_a_killed_process", "a lease that another process has"),
    ],
)
def test_a_store_for_one_process_is_caught(check: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        getattr(OfWholeFile(), f"test_{check}")(tmp_path)
    assert said in str(caught.value)


def test_a_store_of_somebody_elses(tmp_path: Path) -> None:
    """A test file as the documentation shows it, run by pytest as anybody would."""
    (tmp_path / "test_mine.py").write_text(
        "from lm_deluge.cache.stores.sqlite import SqliteStore\n"
        "from lm_deluge.testing import StoreConformance\n\n\n"
        "class TestMine(StoreConformance):\n"
        "    def make(self, path):\n"
        "        return SqliteStore(path / 'mine.db')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "closing or process", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stdout
    assert "1 passed, 2 skipped" in ran.stdout  # skipped: from another process, for it has no ``opening``


def test_without_hypothesis_only_its_use_fails() -> None:
    check = (
        "import sys; sys.modules['hypothesis'] = None; import lm_deluge.testing\n"
        "try: lm_deluge.testing.StoreConformance\n"
        "except ImportError as error: assert 'pip install hypothesis' in str(error), error\n"
        "else: raise AssertionError('imported without hypothesis')"
    )
    subprocess.run([sys.executable, "-c", check], check=True, env={"PYTHONPATH": ":".join(sys.path)})
