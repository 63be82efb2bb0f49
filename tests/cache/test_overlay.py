"""A cache of one's own over a base that is only read: what the base has is served, and it is never written."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores import BoundedStore, JournalStore, LeaseStore, ScanStore
from lm_deluge.cache.stores.overlay import OverlayStore
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import CacheFileError, ConfigError

from .helpers import answer, blob, entry, fingerprints, key, prompt, run_child

GOLDEN = Path(__file__).parent / "golden" / "format_2.db"


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Path]:
    """A file with entries 0 to 9, which have to be there unchanged when the test has ended."""
    path = tmp_path / "shared" / "base.db"
    with closing(SqliteStore(path)) as store:
        store.put_many([entry(number, b"base %d" % number, blobs=blob(b"blob %d" % number)) for number in range(10)])
        store.record_run(Run(id=1, started=1.0, name="of the base"))
    before, when = fingerprints(path.parent), path.stat().st_mtime_ns
    path.parent.chmod(0o500)
    yield path
    path.parent.chmod(0o700)
    assert (fingerprints(path.parent), path.stat().st_mtime_ns) == (before, when)


@pytest.fixture
def store(base: Path, tmp_path: Path) -> Iterator[OverlayStore]:
    with closing(over(base, tmp_path)) as store:
        yield store


def over(base: Path, tmp_path: Path) -> OverlayStore:
    return OverlayStore(SqliteStore(tmp_path / "own.db"), SqliteStore(base, read_only=True))


def values(store: OverlayStore, *numbers: int) -> list[bytes | None]:
    return store.get_many([key(number) for number in numbers])


def test_it_can_what_a_file_can(store: OverlayStore) -> None:
    for capability in (LeaseStore, ScanStore, BoundedStore, JournalStore):
        assert isinstance(store, capability)


def test_own_entries_come_before_those_of_the_base(store: OverlayStore) -> None:
    store.put_many([entry(3, b"own 3"), entry(20, b"own 20")])
    assert values(store, 2, 3, 20, 21, 3) == [b"base 2", b"own 3", b"own 20", None, b"own 3"]
    assert store.delete(key(20))
    assert values(store, 20) == [None]


def test_what_is_deleted_is_hidden_for_ever(store: OverlayStore, base: Path, tmp_path: Path) -> None:
    store.put_many([entry(3, b"own 3")])
    assert store.delete_many([key(number) for number in (2, 3, 30, 2)]) == 2
    assert values(store, 2, 3, 4) == [None, None, b"base 4"]
    assert not store.delete(key(2))
    assert store.read([key(2), key(3)]) == [None, None]
    assert {one.key for one in store.scan()} == {key(number) for number in (0, 1, 4, 5, 6, 7, 8, 9)}
    assert list(store.quarantined()) == []
    with closing(over(base, tmp_path)) as again:
        assert values(again, 2, 3, 4) == [None, None, b"base 4"]
        again.put_many([entry(2, b"new 2")])
        assert values(again, 2) == [b"new 2"]
        again.delete(key(2))
        assert values(again, 2) == [None]


def test_what_is_quarantined_is_not_served_again(store: OverlayStore, base: Path, tmp_path: Path) -> None:
    assert not store.quarantine(key(2), b"something else", "seen before")
    assert not store.quarantine(key(30), b"base 30", "never there")
    assert store.quarantine(key(2), b"base 2", "rejected")
    assert not store.quarantine(key(2), b"base 2", "again")
    assert values(store, 2) == [None]
    (found,) = store.quarantined()
    assert (found.key, found.value, found.reason) == (key(2), b"base 2", "rejected")
    store.put_many([entry(2, b"own 2")])
    assert not store.quarantine(key(2), b"base 2", "of the base, which is not served")
    assert values(store, 2) == [b"own 2"]
    assert store.quarantine(key(2), b"own 2", "rejected too")
    assert values(store, 2) == [None]
    with closing(over(base, tmp_path)) as again:
        assert values(again, 2) == [None]
        assert [one.value for one in again.quarantined()] == [b"base 2", b"own 2"]


def test_quarantine_of_an_own_entry_does_not_bring_the_bases_back(
    store: OverlayStore, base: Path, tmp_path: Path
) -> None:
    store.put_many([entry(2, b"own 2")])
    assert not store.quarantine(key(2), b"something else", "seen before")
    assert values(store, 2) == [b"own 2"]
    assert store.quarantine(key(2), b"own 2", "rejected")
    assert values(store, 2, 3) == [None, b"base 3"]
    assert key(2) not in {one.key for one in store.scan()}
    with closing(over(base, tmp_path)) as again:
        assert values(again, 2) == [None]
        again.put_many([entry(2, b"newer 2")])
        assert values(again, 2) == [b"newer 2"]


def test_what_was_quarantined_is_removed_from_the_own_file_and_stays_hidden(store: OverlayStore) -> None:
    assert store.quarantine(key(2), b"base 2", "rejected")
    assert store.delete_quarantined([key(2), key(3)]) == 1
    assert list(store.quarantined()) == []
    assert values(store, 2, 3) == [None, b"base 3"]


def test_both_files_are_looked_through(store: OverlayStore) -> None:
    store.put_many([entry(20, b"own 20"), entry(4, b"own 4"), msgspec.structs.replace(entry(21), namespace="other")])
    store.delete(key(9))
    order = [20, 4, 21, 0, 1, 2, 3, 5, 6, 7, 8]
    for batch in (1, 3, 256):
        assert [one.key for one in store.scan(batch=batch)] == [key(number) for number in order]
    backwards = [21, 4, 20, 8, 7, 6, 5, 3, 2, 1, 0]
    assert [one.key for one in store.scan(newest_first=True, batch=2)] == [key(number) for number in backwards]
    assert [one.key for one in store.scan(namespace="other")] == [key(21)]
    read = store.read([key(number) for number in (4, 9, 20, 5, 40)])
    assert [None if one is None else one.value for one in read] == [b"own 4", None, b"own 20", b"base 5", None]
    assert store.usage()["entries"] == 13
    assert list(store.verify()) == []


def test_blobs_come_from_both(store: OverlayStore) -> None:
    own, shared = blob(b"own"), blob(b"blob 3")
    store.put_many([entry(20, blobs=own)])
    names = [*own, *shared, bytes(32)]
    assert store.read_blobs(names) == dict(zip(names, [b"own", b"blob 3"], strict=False))


def test_leases_and_accounts_are_the_own_files(store: OverlayStore) -> None:
    assert store.acquire([key(1)], b"a", now=0.0, seconds=5) == [True]
    assert store.acquire([key(1)], b"b", now=0.0, seconds=5) == [False]
    assert store.renew([key(1)], b"a", now=1.0, seconds=5) == [True]
    store.release([key(1)], b"a")
    assert store.acquire([key(1)], b"b", now=0.0, seconds=5) == [True]
    run = Run(id=2, started=2.0)
    store.record_run(run)
    assert list(store.runs()) == [run]


def test_the_limit_is_the_own_files(store: OverlayStore) -> None:
    store.limit(200_000)
    for number in range(100, 400):
        store.put_many([entry(number, bytes(2_000), created=float(number))])
        store.touch([key(3), key(100)], now=float(number))
    assert values(store, 100, 101, 3) == [bytes(2_000), None, b"base 3"]
    assert Path(store.location).stat().st_size < 300_000


def test_a_base_that_somebody_fills_meanwhile(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "base.db")) as writer, closing(over(tmp_path / "base.db", tmp_path)) as store:
        assert values(store, 1) == [None]
        writer.put_many([entry(1, b"base 1")])
        assert values(store, 1) == [b"base 1"]


def test_the_committed_file_as_a_base(tmp_path: Path) -> None:
    path = Path(shutil.copy(GOLDEN, tmp_path / "base.db"))
    whole = path.read_bytes()
    with closing(over(path, tmp_path)) as store:
        entries = list(store.scan())
        assert len(entries) == 11
        assert store.quarantine(entries[0].key, entries[0].value, "rejected")
        assert store.delete(entries[1].key)
        assert store.get_many([one.key for one in entries]) == [None, None, *(one.value for one in entries[2:])]
        assert len(list(store.scan())) == 9
        assert list(store.verify()) == []
    assert path.read_bytes() == whole


def test_a_base_in_a_directory_that_may_not_be_written(base: Path, tmp_path: Path) -> None:
    """Not by anybody: these tests may run as root, who may write everywhere."""
    for directory in [tmp_path, *tmp_path.parents]:
        if not directory.stat().st_mode & 0o005 and os.geteuid() == 0:
            directory.chmod(0o755)
    own = tmp_path / "own"
    own.mkdir(mode=0o777)
    own.chmod(0o777)
    base.chmod(0o444)
    base.parent.chmod(0o555)
    before = fingerprints(base.parent)
    assert run_child("read_base_as_nobody", own / "own.db", base, key(3).hex()) == "base 3\nvalue\n"
    assert fingerprints(base.parent) == before


def test_a_base_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(CacheFileError, match="no cache file"):
        SqliteCache(tmp_path / "own.db", base=tmp_path / "missing.db")
    assert not (tmp_path / "missing.db").exists()


def test_a_file_cannot_lie_over_itself(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "own.db")
    SqliteStore(tmp_path / "own.db").close()
    for base in ("own.db", "link.db"):
        with pytest.raises(ConfigError, match="cannot lie over itself"):
            OverlayStore(SqliteStore(tmp_path / "own.db"), SqliteStore(tmp_path / base, read_only=True))


def test_a_cache_over_a_base(tmp_path: Path) -> None:
    with SqliteCache(tmp_path / "base.db") as cache:
        cache.put(prompt("p"), answer("shared"))
    with SqliteCache(tmp_path / "own.db", base=tmp_path / "base.db") as cache:
        assert cache.get(prompt("p")) == answer("shared")
        cache.put(prompt("q"), answer("own"))
        cache.put(prompt("p"), answer("own"))
        assert cache.get(prompt("p")) == answer("own")
        assert cache.get(prompt("q")) == answer("own")
    with SqliteCache(tmp_path / "base.db") as cache:
        assert cache.get(prompt("p")) == answer("shared")
        assert cache.get(prompt("q")) is None
