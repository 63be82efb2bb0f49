"""A limited file stays below its limit, and loses what was used longest ago, a little at a time."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from lm_deluge.cache.stores import BoundedStore
from lm_deluge.cache.stores.sqlite import SqliteStore, eviction
from lm_deluge.errors import ConfigError

from .helpers import blob, entry, key, run_child

LIMIT = 500_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "cache.db")) as store:
        yield store


def fill(store: SqliteStore, numbers: Sequence[int], size: int = 1_000) -> None:
    """Store entries in batches, each as old as its number."""
    for start in range(0, len(numbers), 20):
        store.put_many([entry(number, bytes(size), created=float(number)) for number in numbers[start : start + 20]])


def kept(store: SqliteStore, numbers: Sequence[int]) -> list[int]:
    values = store.get_many([key(number) for number in numbers])
    return [number for number, value in zip(numbers, values, strict=True) if value is not None]


def test_a_limited_file_stays_below_its_limit(store: SqliteStore) -> None:
    assert isinstance(store, BoundedStore)
    store.limit(LIMIT)
    for start in range(0, 2_000, 100):
        fill(store, range(start, start + 100))
        assert store.usage()["bytes"] <= LIMIT
        assert kept(store, range(start + 80, start + 100)) == list(range(start + 80, start + 100))
    left = kept(store, range(2_000))
    assert left == list(range(2_000 - len(left), 2_000))  # the oldest have gone
    assert len(left) * 1_000 > LIMIT / 2  # and no more than had to
    store.close()
    assert Path(store.location).stat().st_size <= LIMIT * 1.1


def test_without_a_limit_nothing_goes(store: SqliteStore) -> None:
    fill(store, range(1_000))
    assert len(kept(store, range(1_000))) == 1_000
    with closing(sqlite3.connect(store.location)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
    assert "entries_by_use" not in names


def test_a_full_file_shrinks_below_a_limit_that_it_is_given(store: SqliteStore) -> None:
    fill(store, range(2_000))
    store.limit(LIMIT)
    fill(store, [2_000])
    assert store.usage()["bytes"] <= LIMIT
    assert kept(store, [2_000]) == [2_000]
    store.close()
    assert Path(store.location).stat().st_size <= LIMIT * 1.6  # the rest is kept for new entries


def test_what_was_used_lately_stays(store: SqliteStore) -> None:
    store.limit(LIMIT)
    favorites = [3, 50, 111]
    fill(store, range(150))
    for start in range(150, 3_000, 150):
        store.touch([key(number) for number in favorites], now=float(start))
        fill(store, range(start, start + 150))
    assert kept(store, favorites) == favorites
    store.touch([key(number) for number in favorites[:2]], now=10_000.0)
    fill(store, range(3_000, 4_000))
    assert kept(store, favorites) == favorites[:2]


def test_all_that_was_used_counts_before_anything_goes(store: SqliteStore) -> None:
    """More than one put writes down."""
    fill(store, range(1_500), size=100)
    store.touch([key(number) for number in range(900)], now=10_000.0)
    store.limit(store.usage()["bytes"])
    fill(store, range(1_500, 1_520), size=100)
    assert kept(store, range(900)) == list(range(900))
    assert kept(store, range(900, 1_500)) != list(range(900, 1_500))


def test_a_touch_is_written_with_the_next_put_and_on_close(store: SqliteStore) -> None:
    store.limit(LIMIT)
    fill(store, range(3))
    store.touch([key(0), key("unknown")], now=50.0)
    assert store.read([key(0)])[0].used is None  # type: ignore[union-attr]
    store.touch([key(0)], now=49.0)  # from another thread, a little late
    fill(store, [3])
    assert store.read([key(0)])[0].used == 49.0  # type: ignore[union-attr]
    store.touch([key(0)], now=45.0)
    store.touch([key(1)], now=60.0)
    store.close()
    store.close()
    with closing(SqliteStore(store.location)) as again:
        assert [one.used for one in again.read([key(0), key(1), key(2)]) if one] == [49.0, 60.0, None]


def test_an_overwritten_entry_counts_as_new(store: SqliteStore) -> None:
    store.limit(LIMIT)
    fill(store, range(300))
    store.put_many([entry(0, bytes(1_000), created=1_000.0)])
    fill(store, range(300, 500))
    assert kept(store, [0, 1]) == [0]


def test_one_batch_larger_than_the_limit_keeps_its_last_entries(store: SqliteStore) -> None:
    store.limit(LIMIT)
    store.put_many([entry(number, bytes(10_000), created=float(number)) for number in range(200)])
    assert store.usage()["bytes"] <= LIMIT
    left = kept(store, range(200))
    assert left == list(range(200 - len(left), 200))
    assert len(left) > 20


def test_an_entry_larger_than_the_limit_does_not_stay(store: SqliteStore) -> None:
    store.limit(LIMIT)
    store.put_many([entry("large", bytes(2 * LIMIT))])
    assert store.usage()["entries"] == 0
    store.put_many([entry("small", bytes(10))])
    assert store.usage()["entries"] == 1


def test_old_entries_do_not_stay_in_the_place_of_the_new_one(store: SqliteStore) -> None:
    """A batch whose own entries are older than all others, as an import stores it."""
    store.limit(LIMIT)
    fill(store, range(1_000, 1_400))
    store.put_many([entry(number, bytes(1_000), created=float(number)) for number in range(20)])
    assert kept(store, range(20)) == list(range(20))


def test_blobs_and_what_was_quarantined_count_and_go(store: SqliteStore) -> None:
    store.limit(LIMIT)
    for number in range(40):
        store.put_many([entry(number, created=float(number), blobs=blob(os.urandom(40_000)))])
        if number % 4 == 0:
            assert store.quarantine(key(number), b"value", "rejected")
        assert store.usage()["bytes"] <= LIMIT
    usage = store.usage()
    assert usage["blobs"] == usage["entries"] + usage["quarantined"]
    assert list(store.verify()) == []


def test_it_goes_in_small_steps(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[int] = []
    remove = eviction.remove

    def count(writer: sqlite3.Connection, keys: Sequence[bytes]) -> int:
        removed.append(len(keys))
        return remove(writer, keys)

    fill(store, range(3_000), size=100)
    monkeypatch.setattr(eviction, "remove", count)
    store.limit(200_000)
    fill(store, [3_000])
    assert sum(removed) > 1_000
    assert max(removed) <= 64


def test_the_room_of_removed_entries_goes_back_to_the_disk(store: SqliteStore) -> None:
    fill(store, range(4_000))
    store.delete_many([key(number) for number in range(3_900)])
    assert kept(store, range(3_900, 4_000)) == list(range(3_900, 4_000))
    assert list(store.verify()) == []
    store.close()
    assert Path(store.location).stat().st_size < 700_000


@pytest.mark.parametrize("max_bytes", [0, -1])
def test_a_limit_has_to_leave_room(store: SqliteStore, max_bytes: int) -> None:
    with pytest.raises(ConfigError, match="max_bytes"):
        store.limit(max_bytes)


# When entries were used, in a file without a limit

DAY = 86_400.0


def uses(path: Path, *numbers: int) -> list[float | None]:
    """What a file says itself of when entries were last used."""
    with closing(sqlite3.connect(path)) as connection:
        found = dict(connection.execute("SELECT key, used FROM entries"))
    return [found[key(number)] for number in numbers]


def changes(store: SqliteStore) -> int:
    """Rows that the store has changed since it was opened."""
    with store._database.writing() as writer:
        return writer.total_changes


def test_uses_are_kept_without_a_limit_to_the_day(store: SqliteStore) -> None:
    path = Path(store.location)
    fill(store, range(10))
    store.touch([key(number) for number in range(5)], now=3 * DAY)
    assert uses(path, 0, 9) == [None, None]  # remembered, and written with the next put
    fill(store, [10])
    assert uses(path, 0, 4, 5) == [3 * DAY, 3 * DAY, None]
    before = changes(store)
    store.touch([key(number) for number in range(5)], now=3.9 * DAY)
    fill(store, [10])
    assert uses(path, 0) == [3 * DAY]
    assert changes(store) - before == 1  # nothing but the put
    store.touch([key(0)], now=4.1 * DAY)
    store.close()
    assert uses(path, 0, 1) == [4.1 * DAY, 3 * DAY]


def test_uses_are_written_when_the_process_ends_or_the_store_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    store = SqliteStore(path)
    fill(store, range(3))
    store.touch([key(1)], now=5 * DAY)
    del store
    SqliteStore(tmp_path / "another.db").close()  # what was forgotten is closed by whoever opens the next one
    assert uses(path, 0, 1) == [None, 5 * DAY]
    run_child("touch_and_end", path, key(2).hex(), 7 * DAY)
    assert uses(path, 1, 2) == [5 * DAY, 7 * DAY]


def test_uses_that_cannot_be_written_fail_nothing(tmp_path: Path) -> None:
    """Nor is a file made again that somebody has removed."""
    path = tmp_path / "cache.db"
    store = SqliteStore(path)
    fill(store, range(3))
    store.touch([key(1)], now=5 * DAY)
    path.unlink()
    store.close()
    assert not path.exists()


def test_a_lookup_beside_a_writer_waits_for_nothing_to_note_its_use(store: SqliteStore) -> None:
    fill(store, range(3))
    with closing(sqlite3.connect(store.location, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        store.touch([key(0)], now=0.5 * DAY)
        store.close()  # it was used within the day: there is nothing to write, and so nobody to wait for


def test_many_uses_are_remembered_and_not_without_end(store: SqliteStore) -> None:
    fill(store, range(3))
    for start in range(0, 200_000, 1_000):
        store.touch([number.to_bytes(32, "big") for number in range(start, start + 1_000)], now=DAY)
    assert len(store._touches._held) == 65_536
