"""Committed files of today's format stay readable and writable; those of the format before it are refused."""

import hashlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.record import refers_of
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import CacheVersionError

from .helpers import answer, fingerprints, prompt

GOLDEN = Path(__file__).parent / "golden"
FORMAT_1 = """
CREATE TABLE entries (key BLOB NOT NULL PRIMARY KEY, namespace TEXT NOT NULL, created REAL NOT NULL, model TEXT,
    finish_reason TEXT, input_tokens INTEGER, output_tokens INTEGER, cache_read_tokens INTEGER,
    cache_write_tokens INTEGER, cost REAL, response BLOB NOT NULL, request BLOB NOT NULL);
CREATE TABLE blobs (digest BLOB NOT NULL PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE damaged (key BLOB NOT NULL, set_aside REAL NOT NULL, reason TEXT NOT NULL, response BLOB, request BLOB);
PRAGMA application_id = 1819108401;
PRAGMA user_version = 1;
"""


@pytest.fixture(params=["format_2.db", "format_2_scopes.db"])
def committed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file that was written when the format was new; it is never written again."""
    return Path(shutil.copy(GOLDEN / request.param, tmp_path / "cache.db"))


def contents(path: Path) -> dict[bytes, tuple[object, ...]]:
    """All entries of a file, read with SQLite alone and without touching it."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        columns = "namespace, created, model, finish_reason, input_tokens, output_tokens, cost, response, request"
        return {key: rest for key, *rest in connection.execute(f"SELECT key, {columns} FROM entries")}


def test_every_entry_of_a_committed_file_is_served(committed: Path) -> None:
    before = contents(committed)
    assert len(before) in (11, 18)
    with closing(SqliteStore(committed)) as store:
        assert store.get_many(list(before)) == [row[-2] for row in before.values()]
        for entry in store.scan():
            namespace, created, model, finish_reason, input_tokens, output_tokens, cost, value, request = before.pop(
                entry.key
            )
            assert (entry.namespace, entry.value, entry.request) == (namespace, value, request)
            facts = entry.facts
            assert (facts.created, facts.model, facts.finish_reason) == (created, model, finish_reason)
            assert (facts.input_tokens, facts.output_tokens, facts.cost) == (input_tokens, output_tokens, cost)
            assert (facts.run, entry.expires, entry.used) == (0, None, None)
        assert before == {}
        assert list(store.verify()) == []


def test_blobs_of_a_committed_file_go_with_their_last_entry(committed: Path) -> None:
    with closing(SqliteStore(committed)) as store:
        entries = list(store.scan())
        assert store.usage()["blobs"] == 2
        with_blobs = [entry.key for entry in entries if refers_of(entry.request)]
        assert store.delete_many(with_blobs[:1]) == 1
        assert store.usage()["blobs"] >= 1
        assert store.delete_many([entry.key for entry in entries]) == len(entries) - 1
        assert store.usage()["blobs"] == 0


def test_a_committed_file_goes_on_as_any_other(committed: Path) -> None:
    with SqliteCache(committed) as cache:
        cache.put(prompt("new"), answer("new"))
    with SqliteCache(committed) as cache:
        assert cache.get(prompt("new")) == answer("new")


def test_blob_names_are_what_they_name(committed: Path) -> None:
    with closing(SqliteStore(committed)) as store:
        with closing(sqlite3.connect(committed)) as connection:
            names = [name for (name,) in connection.execute("SELECT digest FROM blobs")]
        blobs = store.read_blobs([*names, bytes(32)])
    assert sorted(blobs) == sorted(names)
    assert all(hashlib.sha256(data).digest() == name for name, data in blobs.items())


def test_what_else_is_in_a_committed_file_is_read(tmp_path: Path) -> None:
    path = Path(shutil.copy(GOLDEN / "format_2_scopes.db", tmp_path / "cache.db"))
    with closing(SqliteStore(path)) as store:
        (found,) = store.quarantined()
        assert found.reason == "rejected: wrong unit"
        assert found.when > 1_790_000_000
        assert found.value
        (run,) = store.runs()
        assert (run.id, run.name, run.tags, run.models) == (7, "golden", ("a",), ("gpt-4.1-mini",))


def test_for_reading_only_a_committed_file_stays_as_it_is(committed: Path) -> None:
    whole, before = committed.read_bytes(), contents(committed)
    with closing(SqliteStore(committed, read_only=True)) as store:
        assert {entry.key: entry.value for entry in store.scan()} == {key: row[-2] for key, row in before.items()}
        assert list(store.verify()) == []
    assert committed.read_bytes() == whole
    assert [path.name for path in committed.parent.iterdir()] == ["cache.db"]


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_a_file_of_the_first_format_is_refused_and_stays_as_it_is(tmp_path: Path, journal: str) -> None:
    """It was never released."""
    path = tmp_path / "cache.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(FORMAT_1)
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute(
            "INSERT INTO entries VALUES (zeroblob(32), 'default', 1, NULL, NULL, 1, 1, 1, 1, 1, x'', x'')"
        )
    before = fingerprints(tmp_path)
    for use in (
        lambda: SqliteStore(path),
        lambda: SqliteStore(path, read_only=True),
        lambda: SqliteStore.rebuild_file(path),
    ):
        with pytest.raises(CacheVersionError, match=r"format 1; this one knows 2.*another path.*deluge cache export"):
            use()
    assert fingerprints(tmp_path) == before
