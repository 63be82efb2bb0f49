"""Files of the previous format: upgraded as a whole or not at all, with every answer still there."""

import hashlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.record import refers_of
from lm_deluge.cache.stores import _sqlite_prepare as prepare
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import CacheFileError

from .helpers import answer, finish, kill, prompt, start_child

GOLDEN = Path(__file__).parent / "golden" / "format_1.db"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that the previous format's code has written."""
    return Path(shutil.copy(GOLDEN, tmp_path / "cache.db"))


def contents(path: Path) -> dict[bytes, tuple[object, ...]]:
    """All entries of a file, read with SQLite alone and without touching it."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        columns = "namespace, created, model, finish_reason, input_tokens, output_tokens, cost, response, request"
        return {key: rest for key, *rest in connection.execute(f"SELECT key, {columns} FROM entries")}


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def enlarge(path: Path, *, wal: bool, rows: int = 3_000) -> None:
    """Add so many entries that the upgrade does not fit into SQLite's memory and spills into the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
        connection.execute("BEGIN")
        (request,) = connection.execute("SELECT request FROM entries WHERE length(request) = 61").fetchone()
        connection.executemany(
            "INSERT INTO entries (key, namespace, created, response, request) VALUES (?, 'more', 1.0, ?, ?)",
            [(hashlib.sha256(b"%d" % number).digest(), bytes(1_500), request) for number in range(rows)],
        )
        connection.execute("COMMIT")


def test_every_entry_of_the_committed_file_is_served(old: Path) -> None:
    before = contents(old)
    assert len(before) == 11
    with closing(SqliteStore(old)) as store:
        assert store.get_many(list(before)) == [row[-2] for row in before.values()]
        for entry in store.scan():
            namespace, created, model, finish_reason, input_tokens, output_tokens, cost, value, request = before.pop(
                entry.key
            )
            assert (entry.namespace, entry.value, entry.request) == (namespace, value, request)
            facts = entry.facts
            assert (facts.created, facts.model, facts.finish_reason) == (created, model, finish_reason)
            assert (facts.input_tokens, facts.output_tokens, facts.cost) == (input_tokens, output_tokens, cost)
            assert (facts.asked, facts.run, entry.expires, entry.used) == (None, 0, None, None)
        assert before == {}
        assert list(store.verify()) == []
    assert version(old) == 2


def test_blobs_of_the_committed_file_go_with_their_last_entry(old: Path) -> None:
    with closing(SqliteStore(old)) as store:
        keys = [entry.key for entry in store.scan()]
        assert store.usage()["blobs"] == 3
        with_blobs = [entry.key for entry in store.scan() if refers_of(entry.request)]
        assert len(with_blobs) == 4
        assert store.delete_many(with_blobs[:1]) == 1
        assert store.usage()["blobs"] >= 2
        assert store.delete_many(keys) == 10
        assert store.usage()["blobs"] == 0


def test_an_upgraded_file_goes_on_as_any_other(old: Path) -> None:
    with SqliteCache(old) as cache:
        cache.put(prompt("new"), answer("new"))
    with SqliteCache(old) as cache:
        assert cache.get(prompt("new")) == answer("new")


def test_what_was_set_aside_is_kept(old: Path) -> None:
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        connection.execute("INSERT INTO damaged SELECT key, 12.5, 'torn', x'00ff', request FROM entries LIMIT 1")
    with closing(SqliteStore(old)) as store:
        (found,) = store.set_aside_entries()
    assert (found.when, found.reason, found.value) == (12.5, "torn", b"\x00\xff")
    assert found.request


def test_requests_and_blobs_that_do_not_unpack_stop_nothing(old: Path) -> None:
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM entries ORDER BY length(request) DESC")]
        connection.execute("UPDATE entries SET request = x'ffff' WHERE key = ?", (keys[0],))
        connection.execute("UPDATE entries SET request = 'text' WHERE key = ?", (keys[1],))
        connection.execute("UPDATE blobs SET data = x'ffff' WHERE digest = (SELECT max(digest) FROM blobs)")
    before = contents(old)
    with closing(SqliteStore(old)) as store:
        assert store.get_many(list(before)) == [row[-2] for row in before.values()]
        assert [problem[:5] for problem in store.verify() if "blob" in problem] == ["blob "]


@pytest.mark.parametrize("wal", [False, True], ids=["journal", "WAL"])
def test_killed_in_the_middle_it_is_as_before(old: Path, wal: bool) -> None:
    enlarge(old, wal=wal)
    before = contents(old)
    for stop_at in (1, 8, 1_500, 3_020):
        child = start_child("upgrade_until", old, stop_at)
        assert child.stdout is not None
        assert child.stdout.readline() == "inside\n"
        kill(child)
        with closing(sqlite3.connect(old)) as connection:  # which rolls back
            assert connection.execute("PRAGMA user_version").fetchone() == (1,)
            assert connection.execute("SELECT count(*) FROM damaged").fetchone() == (0,)
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert contents(old) == before
    with closing(SqliteStore(old)) as store:
        assert store.get_many(list(before)) == [row[-2] for row in before.values()]
        assert list(store.verify()) == []


@pytest.mark.parametrize("when", ["before the references are read", "after it"])
def test_one_that_is_overtaken_takes_what_the_other_has_made(
    old: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    before = contents(old)
    real = prepare.references
    overtaken = False

    def references(*arguments: Any) -> Any:
        nonlocal overtaken
        if overtaken:
            return real(*arguments)
        overtaken = True
        found = real(*arguments) if when == "after it" else None
        SqliteStore(old).close()
        return real(*arguments) if found is None else found

    monkeypatch.setattr(prepare, "references", references)
    with closing(SqliteStore(old)) as store:
        assert overtaken
        assert store.get_many(list(before)) == [row[-2] for row in before.values()]
        assert list(store.verify()) == []


def test_processes_that_upgrade_at_once_all_succeed(old: Path) -> None:
    enlarge(old, wal=True)
    before = contents(old)
    children = [start_child("construct", old) for _ in range(4)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        assert finish(child) == "constructed\n"
    with closing(SqliteStore(old)) as store:
        assert store.get_many(list(before)) == [row[-2] for row in before.values()]
        assert store.usage()["entries"] == len(before) + 4
        assert list(store.verify()) == []


@pytest.mark.parametrize("which", [0, 1], ids=["one", "the other"])
def test_damaged_pages_do_not_stop_it(old: Path, which: int) -> None:
    """A page of the table, and one of its index."""
    enlarge(old, wal=False, rows=400)
    data = bytearray(old.read_bytes())
    needle = hashlib.sha256(b"200").digest()
    first = data.index(needle)
    page = (first, data.index(needle, first + 1))[which] // 4_096
    data[page * 4_096 : page * 4_096 + 8] = b"\xff" * 8
    old.write_bytes(data)
    with closing(SqliteStore(old)) as store:
        found = store.get_many([hashlib.sha256(b"%d" % number).digest() for number in range(400)])
        assert sum(value == bytes(1_500) for value in found) > 200
        assert any(store.verify())


def test_what_is_stored_by_the_old_version_meanwhile_counts(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    references = prepare.references
    calls = 0

    def slow(connection: sqlite3.Connection, *refers: Any) -> list[Any]:
        nonlocal calls
        calls += 1
        found = references(connection, *refers)
        if calls == 1:
            enlarge(old, wal=False, rows=50)
        return found

    monkeypatch.setattr(prepare, "references", slow)
    with closing(SqliteStore(old)) as store:
        keys = [hashlib.sha256(b"%d" % number).digest() for number in range(50)]
        blobs = store.usage()["blobs"]
        assert store.delete_many([entry.key for entry in store.scan() if entry.key not in keys]) == 11
        assert 0 < store.usage()["blobs"] < blobs
        assert store.delete_many(keys) == 50
        assert store.usage()["blobs"] == 0
    assert calls == 2


def test_damaged_pages_of_blobs_do_not_stop_it(old: Path) -> None:
    before = contents(old)
    with closing(sqlite3.connect(old)) as connection:
        ((page, size),) = connection.execute(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_schema WHERE name = 'blobs'"
        )
    data = bytearray(old.read_bytes())
    data[(page - 1) * size : (page - 1) * size + 8] = b"\xff" * 8
    old.write_bytes(data)
    with closing(SqliteStore(old)) as store:
        assert store.get_many(list(before)) == [row[-2] for row in before.values()]
        assert any(store.verify())


def test_for_reading_only_it_stays_as_it_is(old: Path) -> None:
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        connection.execute("INSERT INTO damaged SELECT key, 12.5, 'torn', x'00ff', request FROM entries LIMIT 1")
    whole, before = old.read_bytes(), contents(old)
    with closing(SqliteStore(old, read_only=True)) as store:
        assert store.get_many(list(before)) == [row[-2] for row in before.values()]
        assert {entry.key: entry.value for entry in store.scan()} == {key: row[-2] for key, row in before.items()}
        assert [entry.value for entry in store.read(list(before)) if entry] == [row[-2] for row in before.values()]
        assert [found.reason for found in store.set_aside_entries()] == ["torn"]
        assert list(store.runs()) == []
        assert store.usage()["entries"] == 11
        assert list(store.verify()) == []
        with pytest.raises(CacheFileError, match="for reading only"):
            store.delete(next(iter(before)))
    assert old.read_bytes() == whole
    assert [path.name for path in old.parent.iterdir()] == ["cache.db"]


def test_blob_names_are_what_they_name(old: Path) -> None:
    with closing(SqliteStore(old)) as store:
        with closing(sqlite3.connect(old)) as connection:
            names = [name for (name,) in connection.execute("SELECT digest FROM blobs")]
        blobs = store.read_blobs([*names, bytes(32)])
    assert sorted(blobs) == sorted(names)
    assert all(hashlib.sha256(data).digest() == name for name, data in blobs.items())
