"""Blobs are in the file as long as something refers to them, are stored once, and go with the last reference."""

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_deluge.cache.entry import Blob, Entry
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.cache.stores.sqlite import store as sqlite_store

from .helpers import blob, entry, key

LONG = b"a long prefix " * 6_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "cache.db")) as store:
        yield store


def rows(store: SqliteStore, select: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(store.location)) as connection:
        return connection.execute(select).fetchall()


# Some blobs, of which later ones refer to earlier ones, as a chain of messages with media does.
_DATA = [b"%d " % number * 300 for number in range(7)]
_NAMES = [hashlib.sha256(data).digest() for data in _DATA]
_INNER = [(), (), (0,), (0, 1), (2,), (4, 3), (5,)]
_BLOBS = {
    name: Blob(data, tuple(_NAMES[number] for number in inner))
    for name, data, inner in zip(_NAMES, _DATA, _INNER, strict=True)
}


def closure(names: tuple[bytes, ...]) -> set[bytes]:
    found: set[bytes] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting += _BLOBS[name].refers
    return found


def made(number: int, refers: tuple[int, ...], value: int) -> Entry:
    names = tuple(_NAMES[index] for index in refers)
    blobs = {name: _BLOBS[name] for name in closure(names)}
    return Entry(key=key(number), value=b"%d" % value, refers=names, blobs=blobs)


_numbers = st.integers(0, 5)
_references = st.lists(st.integers(0, 6), max_size=3, unique=True).map(tuple)
_values = st.integers(0, 2)
_steps = st.one_of(
    st.tuples(st.just("put"), st.lists(st.tuples(_numbers, _references, _values), min_size=1, max_size=4)),
    st.tuples(st.just("delete"), st.lists(_numbers, min_size=1, max_size=3)),
    st.tuples(st.just("quarantined"), st.tuples(_numbers, _values)),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(st.tuples(_steps, st.integers(0, 1)), min_size=1, max_size=12))
def test_the_blobs_are_those_that_something_refers_to(
    steps: list[tuple[tuple[str, object], int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("blobs") / "cache.db"
    stores = [SqliteStore(path), SqliteStore(path)]  # each with what it remembers of the file
    entries: dict[int, tuple[tuple[int, ...], int]] = {}
    quarantined: list[tuple[int, ...]] = []
    for (what, given_), which in steps:
        store = stores[which]
        if what == "put":
            store.put_many([made(*one) for one in given_])  # type: ignore[attr-defined]
            entries |= {number: (refers, value) for number, refers, value in given_}  # type: ignore[attr-defined]
        elif what == "delete":
            wanted = set(given_) & set(entries)  # type: ignore[call-overload]
            assert store.delete_many([key(number) for number in given_]) == len(wanted)  # type: ignore[attr-defined]
            for number in wanted:
                del entries[number]
        else:
            number, value = given_  # type: ignore[misc]
            moved = number in entries and entries[number][1] == value
            assert store.quarantine(key(number), b"%d" % value, "why") == moved
            if moved:
                quarantined.append(entries.pop(number)[0])
        roots = [refers for refers, _ in entries.values()] + quarantined
        reachable = closure(tuple(_NAMES[index] for refers in roots for index in refers))
        assert {name for (name,) in rows(store, "SELECT digest FROM blobs")} == reachable
        counts = Counter(_NAMES[index] for refers in roots for index in refers)
        for name in reachable:
            counts.update(_BLOBS[name].refers)
        assert dict(rows(store, "SELECT digest, count FROM holders")) == counts
        assert store.read_blobs(_NAMES) == {name: _BLOBS[name].data for name in reachable}
    assert list(stores[0].verify()) == []
    for store in stores:
        store.close()


def test_a_shared_prefix_is_stored_and_compressed_once(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    compressed: list[int] = []
    compress = sqlite_store.compress

    def count(plain: bytes) -> bytes:
        compressed.append(len(plain))
        return compress(plain)

    monkeypatch.setattr(sqlite_store, "compress", count)
    for start in range(0, 1_000, 50):
        store.put_many([entry(number, blobs=blob(LONG)) for number in range(start, start + 50)])
    assert compressed == [len(LONG)]
    assert rows(store, "SELECT count(*) FROM blobs") == [(1,)]
    assert rows(store, "SELECT count FROM holders") == [(1_000,)]
    with closing(SqliteStore(store.location)) as another:
        another.put_many([entry("another", blobs=blob(LONG))])
    assert compressed == [len(LONG)]  # what another one has stored is looked up, and not made again


def test_a_blob_that_another_process_has_removed_is_stored_again(store: SqliteStore) -> None:
    store.put_many([entry("first", blobs=blob(LONG))])
    with closing(SqliteStore(store.location)) as another:
        another.delete(key("first"))
    assert rows(store, "SELECT * FROM blobs") == []
    store.put_many([entry("second", blobs=blob(LONG))])
    assert list(store.read_blobs(list(blob(LONG))).values()) == [LONG]
    assert list(store.verify()) == []


def test_entries_without_blobs_cost_no_row_but_their_own(store: SqliteStore) -> None:
    store.put_many([entry(number) for number in range(100)])
    assert rows(store, "SELECT * FROM holders") == rows(store, "SELECT * FROM blobs") == []
    assert rows(store, "SELECT DISTINCT refers FROM entries") == [(None,)]


def test_what_is_quarantined_keeps_its_request_readable(store: SqliteStore) -> None:
    store.put_many([entry("bad", blobs=blob(LONG)), entry("good")])
    assert store.quarantine(key("bad"), b"value", "rejected")
    assert store.delete_many([key("bad"), key("good")]) == 1
    assert list(store.read_blobs(list(blob(LONG))).values()) == [LONG]
    store.put_many([entry("bad", blobs=blob(LONG))])
    store.delete(key("bad"))
    assert rows(store, "SELECT count FROM holders") == [(1,)]


def test_a_long_chain_goes_as_a_whole(store: SqliteStore) -> None:
    chain: dict[bytes, Blob] = {}
    for number in range(1_200):
        before = list(chain)[-1:]
        chain |= blob(b"node %d" % number, *before)
    store.put_many([entry("chain", blobs=chain)])
    assert store.usage()["blobs"] == 1_200
    assert store.read_blobs(list(chain)) == {name: one.data for name, one in chain.items()}
    store.delete(key("chain"))
    assert store.usage()["blobs"] == 0
    assert rows(store, "SELECT * FROM holders") == []


def test_blobs_that_cannot_be_read_are_left_out(store: SqliteStore) -> None:
    blobs = blob(b"one" * 500) | blob(b"two" * 500) | blob(b"three" * 500)
    store.put_many([entry("p", blobs=blobs)])
    first, second, third = blobs
    with closing(sqlite3.connect(store.location, isolation_level=None)) as connection:
        connection.execute("UPDATE blobs SET data = x'ffff' WHERE digest = ?", (first,))
        connection.execute(
            "UPDATE blobs SET data = (SELECT data FROM blobs WHERE digest = ?) WHERE digest = ?", (third, second)
        )
    assert store.read_blobs([first, second, third, bytes(32)]) == {third: b"three" * 500}
    said = list(store.verify())
    assert len(said) == 2
    assert all(name.hex()[:16] in " ".join(said) for name in (first, second))


def test_a_key_that_is_deleted_twice_counts_once(store: SqliteStore) -> None:
    store.put_many([entry(number, blobs=blob(LONG)) for number in range(600)])
    keys = [key(number) for number in range(599)]
    assert store.delete_many([*keys, *keys[:5], key(1)]) == 599
    assert list(store.read_blobs(list(blob(LONG))).values()) == [LONG]
    assert rows(store, "SELECT count FROM holders") == [(1,)]
