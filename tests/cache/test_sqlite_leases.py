"""Leases in the file: one holder for each key among all processes, and none for longer than it lives."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lm_deluge.cache.stores import LeaseStore
from lm_deluge.cache.stores.leveldb import LevelDBStore
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.stores.overlay import OverlayStore
from lm_deluge.cache.stores.sqlite import SqliteStore

from .helpers import entry, kill, start_child


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "cache.db")) as store:
        yield store


A, B = b"holder a", b"holder b"
KEYS = [bytes([number]) * 32 for number in range(3)]


def test_a_key_has_one_holder_until_the_lease_ends(store: SqliteStore) -> None:
    assert isinstance(store, LeaseStore)
    assert store.acquire(KEYS[:2], A, now=100.0, seconds=5) == [True, True]
    assert store.acquire(KEYS, B, now=104.9, seconds=5) == [False, False, True]
    assert store.acquire(KEYS[:1], A, now=104.9, seconds=5) == [True]  # its own, which it prolongs
    assert store.acquire(KEYS, B, now=105.0, seconds=5) == [False, True, True]
    assert store.acquire(KEYS, B, now=110.0, seconds=5) == [True, True, True]


def test_only_the_holder_renews_and_only_in_time(store: SqliteStore) -> None:
    store.acquire(KEYS[:2], A, now=0.0, seconds=5)
    assert store.renew(KEYS, A, now=4.0, seconds=5) == [True, True, False]
    assert store.renew(KEYS, B, now=4.0, seconds=5) == [False, False, False]
    assert store.acquire(KEYS[:1], B, now=8.0, seconds=5) == [False]
    assert store.renew(KEYS, A, now=9.0, seconds=5) == [False, False, False]
    assert store.acquire(KEYS[:1], B, now=9.0, seconds=5) == [True]


def test_only_the_holder_gives_back(store: SqliteStore) -> None:
    store.acquire(KEYS, A, now=0.0, seconds=5)
    store.release(KEYS, B)
    assert store.acquire(KEYS, B, now=0.0, seconds=5) == [False] * 3
    store.release(KEYS[1:], A)
    assert store.acquire(KEYS, B, now=0.0, seconds=5) == [False, True, True]


# As the wall clock says them, so that a lease of a real holder lies beside those.
NOW = 1_800_000_000.0
NEVER_ENDING = {
    "in 70 years": NOW + 2.2e9,
    "a moment after two lifetimes": NOW + 10.001,
    "infinity": float("inf"),
    "a text": "soon",
    "a text of a number": "1e999",
    "an empty text": "",
    "a blob": b"soon",
    "an empty blob": b"",
    "negative": -1.0,
    "minus infinity": float("-inf"),
    "a large integer": 2**62,
}


@pytest.mark.parametrize("end", NEVER_ENDING.values(), ids=list(NEVER_ENDING))
def test_a_lease_that_would_never_end_has_ended(store: SqliteStore, end: object) -> None:
    with store._database.transaction() as writer:
        writer.executemany("INSERT INTO leases VALUES (?, ?, ?)", [(key, A, end) for key in KEYS[:2]])
        writer.execute("INSERT INTO leases VALUES (?, ?, ?)", (KEYS[2], A, NOW + 10))
    assert store.renew(KEYS[:1], B, now=NOW, seconds=5) == [False]
    assert store.acquire(KEYS, B, now=NOW, seconds=5) == [True, True, False]
    assert store.renew(KEYS, B, now=NOW + 4, seconds=5) == [True, True, False]
    assert store.acquire(KEYS, A, now=NOW + 4, seconds=5) == [False, False, True]


def test_a_clock_that_is_set_back_makes_no_lease_longer(
    every_kind: "LeaseStore",
) -> None:
    """The holder is dead, or renews by the new clock and keeps what nobody took."""
    store = every_kind
    assert store.acquire(KEYS[:2], A, now=NOW, seconds=5) == [True, True]
    earlier = NOW - 3_600
    assert store.renew(KEYS[:1], A, now=earlier, seconds=5) == [True]
    assert store.acquire(KEYS[:2], B, now=earlier + 1, seconds=5) == [False, True]
    assert store.acquire(KEYS[:1], B, now=earlier + 6, seconds=5) == [True]


@pytest.fixture(params=["sqlite", "memory", "leveldb", "overlay"])
def every_kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LeaseStore]:
    """Each kind of store that goes by our clock."""
    if request.param == "leveldb":
        pytest.importorskip("plyvel")
        made: Any = LevelDBStore(tmp_path / "leveldb")
    elif request.param == "memory":
        made = MemoryStore()
    else:
        made = SqliteStore(tmp_path / "own.db")
    if request.param == "overlay":
        SqliteStore(tmp_path / "base.db").close()
        made = OverlayStore(made, SqliteStore(tmp_path / "base.db", read_only=True))
    with closing(made):
        yield made


def test_many_keys_at_once_keep_their_order(store: SqliteStore) -> None:
    keys = [number.to_bytes(32, "big") for number in range(1_300)]
    assert store.acquire(keys[::3], A, now=0.0, seconds=5) == [True] * 434
    assert store.acquire(keys, B, now=0.0, seconds=5) == [number % 3 != 0 for number in range(1_300)]
    assert store.renew(keys, A, now=0.0, seconds=5) == [number % 3 == 0 for number in range(1_300)]
    store.release(keys, A)
    store.release(keys, B)
    with store._database.reading() as reader:
        assert reader.execute("SELECT count(*) FROM leases").fetchone() == (0,)


def test_leases_are_no_entries(store: SqliteStore) -> None:
    store.acquire(KEYS, A, now=0.0, seconds=5)
    assert store.get_many(KEYS) == [None] * 3
    assert list(store.scan()) == []
    store.put_many([entry("p")])
    assert store.acquire([entry("p").key], B, now=0.0, seconds=5) == [True]


def test_a_lease_does_not_wait_for_the_disk_and_entries_still_do(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "cache.db", synchronous="FULL")) as store:
        said: list[str] = []
        with store._database.writing() as writer:
            writer.set_trace_callback(said.append)
        store.acquire(KEYS, A, now=0.0, seconds=5)
        store.put_many([entry("p")])
        store.renew(KEYS, A, now=0.0, seconds=5)
        with store._database.writing() as writer:
            writer.set_trace_callback(None)
            assert writer.execute("PRAGMA synchronous").fetchone() == (2,)
        wanted = (
            "PRAGMA synchronous = NORMAL",
            "PRAGMA synchronous = FULL",
            "COMMIT",
            "INSERT OR REPLACE INTO entries",
        )
        short, full, commit, put = wanted
        order = [what for line in said for what in wanted if line.startswith(what)]
        assert order == [short, commit, full, put, commit, short, commit, full]


def ask(child: object, *words: object) -> str:
    stdin, stdout = child.stdin, child.stdout  # type: ignore[attr-defined]
    stdin.write(" ".join(map(str, words)) + "\n")
    stdin.flush()
    return str(stdout.readline().strip())


def test_of_several_processes_one_gets_the_lease(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    children = [start_child("lease", path, f"holder {number}") for number in range(4)]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:  # all begin at once
            assert child.stdin is not None
            child.stdin.write("race 200 100.0 5\n")
            child.stdin.flush()
        won = [child.stdout.readline().strip() for child in children if child.stdout is not None]
        assert [sum(mine[number] == "1" for mine in won) for number in range(200)] == [1] * 200
    finally:
        for child in children:
            kill(child)


def test_the_lease_of_a_dead_holder_runs_out(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    holder = start_child("lease", path, "holder")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    assert ask(holder, "race", 3, 100.0, 5) == "111"
    kill(holder)
    keys = [number.to_bytes(32, "big") for number in range(3)]
    with closing(SqliteStore(path)) as store:
        assert store.acquire(keys, B, now=104.0, seconds=5) == [False] * 3
        assert store.acquire(keys, B, now=105.0, seconds=5) == [True] * 3
