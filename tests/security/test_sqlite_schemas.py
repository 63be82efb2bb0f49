"""What is put into the schema of an SQLite file while it is open, or where it is damaged, does not run either."""

import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.cache.stores.sqlite import connection as _sqlite_connection
from lm_deluge.cache.stores.sqlite.connection import connect
from lm_deluge.cache.stores.sqlite.database import Database
from lm_deluge.errors import CacheError, CacheFileError
from lm_deluge.testing._store_checks import entry, key_of

from ..cache.helpers import answer, prompt

WITHOUT_END = "(WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c)"
TABLES = ("entries", "blobs", "set_aside", "holders", "leases", "runs", "hidden")


def change(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(script)


def view_instead_of(path: Path, table: str) -> str:
    with closing(sqlite3.connect(path)) as database:
        columns = ", ".join(name for _, name, *_ in database.execute(f"PRAGMA table_info({table})"))
    return f"ALTER TABLE {table} RENAME TO theirs; CREATE VIEW {table} AS SELECT {columns} FROM theirs, {WITHOUT_END};"


def filled(path: Path) -> Path:
    with closing(SqliteStore(path)) as store:
        store.put_many([entry("a"), entry("b")])
    return path


# All that a store does, by the table that it needs.
USES: dict[str, Callable[[SqliteStore], Any]] = {
    "get": lambda store: store.get_many([key_of("a")]),
    "put": lambda store: store.put_many([entry("c")]),
    "quarantined": lambda store: store.quarantine(key_of("a"), b"value", "why"),
    "delete": lambda store: store.delete_many([key_of("a")]),
    "acquire": lambda store: store.acquire([key_of("a")], b"me", now=1.0, seconds=1.0),
    "renew": lambda store: store.renew([key_of("a")], b"me", now=1.0, seconds=1.0),
    "release": lambda store: store.release([key_of("a")], b"me"),
    "scan": lambda store: list(store.scan()),
    "read": lambda store: store.read([key_of("a")]),
    "read blobs": lambda store: store.read_blobs([key_of("a")]),
    "what was quarantined": lambda store: list(store.quarantined()),
    "delete what was quarantined": lambda store: store.delete_quarantined([key_of("a")]),
    "usage": lambda store: store.usage(),
    "runs": lambda store: list(store.runs()),
    "hidden": lambda store: store.hidden([key_of("a")]),
    "rebuild": lambda store: store.rebuild(),
}


@pytest.mark.parametrize("table", TABLES)
def test_a_view_in_the_place_of_a_table_that_is_open_does_not_run(tmp_path: Path, table: str) -> None:
    path = filled(tmp_path / "cache.db")
    with closing(SqliteStore(path)) as store, closing(SqliteStore(path, read_only=True)) as reader:
        for use in USES.values():
            use(store)  # so that its statements are prepared
        with closing(SqliteStore(path)) as other:
            other.put_many([entry("a")])
        change(path, view_instead_of(path, table))
        for name, use in USES.items():
            with pytest.raises(CacheFileError, match=rf"cache\.db has a part.*view '{table}'"):
                use(store)
            if name in ("get", "scan", "read", "read blobs", "what was quarantined", "usage", "runs"):
                with pytest.raises(CacheFileError, match="has a part"):
                    use(reader)
        (said,) = store.verify()
        assert "has a part" in said
        change(path, f"DROP VIEW {table}; ALTER TABLE theirs RENAME TO {table};")
        assert store.get_many([key_of("a")]) == [b"value"]
        assert reader.get_many([key_of("a")]) == [b"value"]


PARTS = {
    "trigger": "CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM entries WHERE key <> new.key; END;",
    "temporary names": "CREATE TRIGGER sqlite_t AFTER DELETE ON entries BEGIN SELECT 1; END;".replace("sqlite_", "x"),
    "generated": "ALTER TABLE entries ADD COLUMN x AS (zeroblob(900000000));",
    "expression": "CREATE INDEX i ON entries (length(response || zeroblob(200000000)));",
    "partial": "CREATE INDEX i ON entries (model) WHERE length(hex(zeroblob(100000000))) < 0;",
    "check": "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'PRIMARY KEY,', "
    "'PRIMARY KEY CHECK (length(hex(zeroblob(100000000))) > 0),') WHERE name = 'entries'; PRAGMA schema_version = 99;",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_comes_while_the_file_is_open_takes_nothing_away(tmp_path: Path, part: str) -> None:
    path = filled(tmp_path / "cache.db")
    with closing(SqliteStore(path)) as store, closing(SqliteStore(path)) as unused:
        store.put_many([entry("c")])
        change(path, PARTS[part])
        for one in (store, unused):
            with pytest.raises(CacheFileError, match="has a part"):
                one.put_many([entry("d")])
            with pytest.raises(CacheFileError, match="has a part"):
                one.get_many([key_of("a")])
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(key) FROM entries").fetchone() == (3,)


def test_a_base_that_changes_while_it_is_open_is_refused_and_ones_own_file_goes_on(tmp_path: Path) -> None:
    with SqliteCache(tmp_path / "base.db") as base:
        base.put(prompt("p"), answer("x"))
    with SqliteCache(tmp_path / "own.db", base=tmp_path / "base.db") as cache:
        cache.put(prompt("q"), answer("y"))
        assert cache.get(prompt("p")) == answer("x")
        change(tmp_path / "base.db", view_instead_of(tmp_path / "base.db", "entries"))
        assert cache.get(prompt("q")) == answer("y")
        with pytest.raises(CacheFileError, match=r"base\.db has a part"):
            cache.get(prompt("p"))


def test_a_change_that_is_harmless_is_looked_at_and_used(tmp_path: Path) -> None:
    path = filled(tmp_path / "cache.db")
    with closing(SqliteStore(path)) as store:
        assert store.get_many([key_of("a")]) == [b"value"]
        change(
            path, "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); CREATE INDEX by_model ON entries (model);"
        )
        assert store.get_many([key_of("a")]) == [b"value"]
        store.put_many([entry("c")])
        assert len(list(store.scan())) == 3
        assert list(store.verify()) == []


def test_statements_are_prepared_only_after_a_look(tmp_path: Path) -> None:
    path = filled(tmp_path / "cache.db")
    with closing(connect(path, "mode=rw")) as connection:
        looks = []
        connection.set_trace_callback(lambda sql: looks.append(sql) if "sqlite_schema" in sql else None)
        for _ in range(5):
            connection.execute("SELECT key FROM entries").fetchall()
        assert len(looks) == 1  # a statement that is prepared costs nothing more
        connection.execute("SELECT key FROM blobs WHERE digest = ?".replace("key", "digest"), (b"",)).fetchall()
        assert len(looks) == 2
        assert not connection.in_transaction
        for statement in ("ATTACH 'other.db' AS other", "DETACH main"):
            with pytest.raises(sqlite3.DatabaseError):
                connection.execute(statement)
        assert not (tmp_path / "other.db").exists()


def test_what_is_in_further_tables_is_not_checked(tmp_path: Path) -> None:
    path = filled(tmp_path / "cache.db")
    change(path, "PRAGMA journal_mode = DELETE; CREATE TABLE notes (a); INSERT INTO notes VALUES (zeroblob(50000));")
    with closing(sqlite3.connect(path)) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'notes'").fetchone()
    data = bytearray(path.read_bytes())
    data[(root - 1) * 4096] = 0x99  # no type of page
    path.write_bytes(data)
    with closing(SqliteStore(path, read_only=True)) as store:
        assert list(store.verify()) == []
    with closing(SqliteStore(path)) as store:
        (root,) = [_root(path, "sqlite_autoindex_entries_1")]
    data[(root - 1) * 4096] = 0x99
    path.write_bytes(data)
    with closing(SqliteStore(path, read_only=True)) as store:
        assert list(store.verify()) != []


def _root(path: Path, name: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
        return int(root)


@pytest.mark.parametrize("table", TABLES)
def test_a_view_beside_a_damaged_page_of_the_schema_does_not_run(tmp_path: Path, table: str) -> None:
    path = filled(tmp_path / "cache.db")
    fillers = "".join(f"CREATE TABLE z{n:02}(a /*{'p' * 900}*/);" for n in range(30))
    change(path, f"PRAGMA journal_mode = DELETE; {view_instead_of(path, table)} {fillers}")
    data = bytearray(path.read_bytes())
    pages = {start: data[start : start + 4096] for start in range(0, len(data), 4096)}
    data[max(start for start, page in pages.items() if b"TABLE z2" in page and b"VIEW" not in page)] = 0x99
    path.write_bytes(data)
    with pytest.raises(CacheFileError, match="has a part"):
        SqliteStore.rebuild_file(path)
    assert path.read_bytes() == data
    assert [child.name for child in tmp_path.iterdir()] == ["cache.db"]


def test_a_statement_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should one come through all the same."""
    monkeypatch.setattr(_sqlite_connection, "_SECONDS", 0.0)
    monkeypatch.setattr(_sqlite_connection, "_BYTES_PER_SECOND", 1e12)
    monkeypatch.setattr(_sqlite_connection, "_STEPS", 1000)
    path = filled(tmp_path / "cache.db")
    with closing(Database(path, read_only=True)) as database:
        nearly = ", ".join(f"entries e{number}" for number in range(60))
        with pytest.raises(CacheFileError, match="took longer"), database.reading() as reader:
            reader.execute(f"SELECT count(*) FROM {nearly}").fetchall()
        with pytest.raises(CacheError, match="not authorized"), database.reading() as reader:
            reader.execute(f"SELECT count(*) FROM {WITHOUT_END}").fetchall()
        with database.reading() as reader:
            assert reader.execute("SELECT count(*) FROM entries").fetchone() == (2,)


MAGIC = bytes.fromhex("d9d505f920a163d7")


def journal(database: Path, victim: Path | None) -> bytes:
    """A hot journal with nothing to undo; it may name a super-journal."""
    pages = database.stat().st_size // 4096
    header = (MAGIC + struct.pack(">IIIII", 0, 1234, pages, 512, 4096)).ljust(512, b"\0")
    if victim is None:
        return header
    name = str(victim).encode()
    end = struct.pack(">I", 0x40000000 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name)) + MAGIC
    return header + end


def with_journal(tmp_path: Path, *, names: bool) -> tuple[Path, Path]:
    path = filled(tmp_path / "cache.db")
    (victim := tmp_path / "victim.txt").write_text("precious")
    Path(f"{path}-journal").write_bytes(journal(path, victim if names else None))
    return path, victim


OPENINGS: dict[str, Callable[[Path], Any]] = {
    "a cache": lambda path: SqliteCache(path).close(),
    "a base": lambda path: SqliteCache(path.with_name("own.db"), base=path).close(),
    "a cache over a base": lambda path: SqliteCache(path, base=filled(path.with_name("base.db"))).close(),
    "a store": lambda path: SqliteStore(path).close(),
    "reading": lambda path: SqliteStore(path, read_only=True).close(),
    "rebuild": lambda path: SqliteStore.rebuild_file(path),
    "by a link": lambda path: SqliteStore(_link(path)).close(),
    "rebuild by a link": lambda path: SqliteStore.rebuild_file(_link(path)),
}


def _link(path: Path) -> Path:
    (link := path.with_name("link.db")).symlink_to(path.name)
    return link


@pytest.mark.parametrize("opening", OPENINGS)
def test_a_journal_that_names_another_file_is_refused_and_all_stays(tmp_path: Path, opening: str) -> None:
    path, victim = with_journal(tmp_path, names=True)
    before = path.read_bytes(), Path(f"{path}-journal").read_bytes()
    with pytest.raises(CacheFileError, match=r"cache\.db-journal is the journal of another program"):
        OPENINGS[opening](path)
    assert victim.read_text() == "precious"
    assert (path.read_bytes(), Path(f"{path}-journal").read_bytes()) == before


def test_a_journal_of_ours_is_rolled_back(tmp_path: Path) -> None:
    path, victim = with_journal(tmp_path, names=False)
    with closing(SqliteStore(path)) as store:
        assert store.get_many([key_of("a")]) == [b"value"]
    assert victim.exists()
    assert not Path(f"{path}-journal").exists()


def test_a_journal_that_comes_while_the_file_is_closed_for_a_moment_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path / "cache.db")
    (victim := tmp_path / "victim.txt").write_text("precious")
    with closing(SqliteStore(path)) as store:
        store._database.pause()  # as for a fork
        store._database.resume()
        Path(f"{path}-journal").write_bytes(journal(path, victim))
        for use in (lambda: store.get_many([key_of("a")]), lambda: store.put_many([entry("c")])):
            with pytest.raises(CacheFileError, match="journal of another program"):
                use()
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
@pytest.mark.parametrize("way", ["symlink_to", "hardlink_to"])
def test_what_belongs_to_a_file_is_no_link(tmp_path: Path, suffix: str, way: str) -> None:
    path = filled(tmp_path / "cache.db")
    (victim := tmp_path / "victim.txt").write_text("precious")
    getattr(Path(f"{path}{suffix}"), way)(victim)
    with pytest.raises(CacheFileError, match=rf"cache\.db{suffix} is a link"):
        SqliteStore(path)
    assert victim.read_text() == "precious"
