"""SQLite files of strangers, with everything right on the outside: they are refused or used, and nothing else happens.

Not: code that runs, memory that fills up, a statement without end, a wrong answer, or an exception that is not ours.
"""

import json
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import lm_deluge.errors
from lm_deluge.cache import SqliteCache
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import CacheFileError

from . import hostile

PROGRAM = Path(__file__).with_name("hostile.py")
OURS = tuple(lm_deluge.errors.__all__)

COLUMNS = (
    "key, namespace, created, asked, model, finish_reason, input_tokens, output_tokens, cache_read_tokens, "
    "cache_write_tokens, cost, run, expires, used, refers, response, request"
)
MOVED = "ALTER TABLE entries RENAME TO theirs;"
WITHOUT_END = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
LARGE = "zeroblob(900000000)"
NEXT = "(SELECT e.{} FROM entries e WHERE e.rowid = entries.rowid + 1)"
SLOW = "length(hex(zeroblob(100000000)))"


def view(response: str, source: str) -> str:
    return f"{MOVED} CREATE VIEW entries AS SELECT {COLUMNS.replace('response', f'{response} AS response')} {source};"


def schema(old: str, new: str, name: str = "entries") -> str:
    """Change the text of a table, past all checks."""
    return (
        "PRAGMA writable_schema = ON; "
        f"UPDATE sqlite_schema SET sql = replace(sql, '{old}', '{new}') WHERE name = '{name}';"
    )


# Parts that would run with our statements.
REFUSED = {
    "a view that never ends": view("response", f"FROM theirs, ({WITHOUT_END} SELECT x FROM c)"),
    "a view that fills the memory": view(LARGE, "FROM theirs"),
    "a view beside the tables": "CREATE VIEW costs AS SELECT sum(cost) FROM entries;",
    "a trigger that never ends": "CREATE TRIGGER t AFTER INSERT ON entries BEGIN "
    f"INSERT INTO set_aside (key, at, reason) {WITHOUT_END} SELECT x, 1, 'x' FROM c; END;",
    "a trigger that takes answers away": "CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM entries; END;",
    "a trigger that keeps answers out": "CREATE TRIGGER t BEFORE INSERT ON entries BEGIN SELECT RAISE(IGNORE); END;",
    "a trigger under another name": "CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM entries; END;"
    "PRAGMA writable_schema = ON; "
    "UPDATE sqlite_schema SET type = 'table', name = 'n', tbl_name = 'n' WHERE name = 't';",
    "a generated column": f"ALTER TABLE entries ADD COLUMN x AS ({LARGE});",
    "a generated response": f"{MOVED} CREATE TABLE entries ({COLUMNS.replace('response', f'response AS ({LARGE})')});",
    "a check": schema("PRIMARY KEY,", f"PRIMARY KEY CHECK ({SLOW} > 0),"),
    "a default": schema("run           INTEGER", f"run DEFAULT ({SLOW})"),
    "a conflict clause": schema("NOT NULL PRIMARY KEY", "NOT NULL ON CONFLICT IGNORE PRIMARY KEY ON CONFLICT IGNORE"),
    "an index over an expression": f"CREATE INDEX i ON entries (length(key) + {SLOW});",
    "an index over some rows": f"CREATE INDEX i ON entries (model) WHERE {SLOW} > 0;",
    "an index that allows one row": "UPDATE entries SET namespace = key; CREATE UNIQUE INDEX i ON entries (namespace);",
    "an index in the place of ours": f"CREATE INDEX entries_by_use ON entries (coalesce(used, {SLOW}));",
    "an index over an expression of another table": f"CREATE TABLE n (a); CREATE INDEX i ON n (length(a) + {SLOW});",
    "a check of another table": f"CREATE TABLE n (a CHECK ({SLOW} > 0));",
    "a default of another table": f"CREATE TABLE n (a DEFAULT ({SLOW}));",
    "a generated column of another table": f"CREATE TABLE n (a, b AS ({SLOW}));",
    "an index that says it is another table's": f"CREATE INDEX i ON entries (length(key) + {SLOW});"
    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET tbl_name = 'n' WHERE name = 'i';",
    "a trigger that says it is an index": "CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM entries; END;"
    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET type = 'index', tbl_name = 'n' WHERE name = 't';",
    "a view that says it is an index": "CREATE VIEW v AS SELECT 1;"
    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET type = 'index', tbl_name = 'n' WHERE name = 'v';",
    "a virtual table": f"{MOVED} CREATE VIRTUAL TABLE entries USING fts5 ({COLUMNS});",
}

# Odd content of our own tables.
USED = {
    "nothing odd": "",
    "an index of the user's": "CREATE INDEX by_model ON entries (model, created);",
    "a unique index on a table of the user's": "CREATE TABLE n (a, b); CREATE UNIQUE INDEX i ON n (a, b DESC);",
    "a table of the user's": "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);",
    "long text among numbers": "UPDATE entries SET input_tokens = hex(zeroblob(300000)), cost = zeroblob(300000), "
    "model = zeroblob(300000), created = 'x', expires = 'never', run = 'x', namespace = 7, refers = 'zz';",
    "numbers out of range": "UPDATE entries SET created = 9e999, cost = -9e999, run = -1, input_tokens = -5, "
    "used = -9e999;",
    "text for keys": "UPDATE entries SET key = CAST(key AS TEXT);",
    "short and long keys": "UPDATE entries SET key = substr(key, 1, 20 + rowid) || zeroblob(8 * (rowid % 3));",
    "rows at the ends": "UPDATE entries SET rowid = -rowid WHERE rowid < 4; "
    "UPDATE entries SET rowid = 9223372036854775807 WHERE rowid = 12;",
    "answers of each other": f"UPDATE entries SET response = coalesce({NEXT.format('response')}, x'00');",
    "requests of each other": f"UPDATE entries SET request = coalesce({NEXT.format('request')}, x'00');",
    "text for answers": "UPDATE entries SET response = CAST(response AS TEXT), request = 5;",
    "blobs that refer to themselves": "UPDATE blobs SET refers = digest; UPDATE holders SET count = 1;",
    "blobs that hold something else": "UPDATE blobs SET data = zeroblob(50);",
    "counts that are none": "UPDATE holders SET count = 'x'; INSERT INTO holders VALUES (x'00', -5), (x'01', 1e300);",
    "blobs without holders": "DELETE FROM holders;",
    "references without end": "UPDATE entries SET refers = zeroblob(320000);",
    "leases of nobody": "INSERT INTO leases VALUES (1, 2, 'x'), (x'00', zeroblob(100000), 9e999);",
    "quarantined": "INSERT INTO set_aside VALUES (1, 'x', x'ff', 2, 3, 4), (x'00', 9e999, 5, NULL, NULL, NULL);",
    "hidden": "INSERT INTO hidden VALUES ('x'), (1), (zeroblob(100000));",
    "accounts that are none": "INSERT INTO runs (id, started, name, tags, models, report) VALUES "
    "(1, 'x', 5, x'ff', '{', '{\"zzz\":' || replace(hex(zeroblob(50000)), '00', '[') || '1'), "
    "(-1, 9e999, x'1b5b324a', '[1]', '[\"' || char(27) || '[2J\"]', '{\"prompts\": \"x\"}'), "
    "(3, 1.0, 'null', replace(hex(zeroblob(50000)), '00', '['), '[]', '{\"hits_by_store\": {\"a\": 1e400}}');",
    "no blobs": "DROP TABLE blobs;",
    "no runs": "DROP TABLE runs;",
    "no entries": "DROP TABLE entries;",
    "no row numbers": f"{MOVED} CREATE TABLE entries ({COLUMNS}, PRIMARY KEY (key)) WITHOUT ROWID; "
    "INSERT INTO entries SELECT * FROM theirs;",
    "row numbers that are none": f"{MOVED} CREATE TABLE entries ({COLUMNS}, rowid); "
    "INSERT INTO entries SELECT *, 'x' FROM theirs;",
    "a generated response under another name": f"{MOVED} CREATE TABLE entries "
    f"({COLUMNS.replace('response', f'response AS ({LARGE})')}); "
    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET name = 'n', tbl_name = 'n' WHERE name = 'entries';",
    "another format": "PRAGMA user_version = 1;",
    "an impossible format": "PRAGMA user_version = -5;",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good cache file."""
    path = tmp_path_factory.mktemp("whole") / "cache.db"
    with SqliteCache(path) as cache:
        for number in range(hostile.PROMPTS):
            cache.put(hostile.prompt(number), hostile.answer(number))
    return path.read_bytes()


def changed(path: Path, whole: bytes, script: str) -> Path:
    path.write_bytes(whole)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(script)
    return path


def outcomes(paths: list[Path]) -> list[dict[str, Any]]:
    """What came of using each file, from another process."""
    done = subprocess.run(
        [sys.executable, PROGRAM],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        text=True,
        check=False,
        timeout=30 + 3 * len(paths),
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "MALLOC_ARENA_MAX": "1"},
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"it did not survive {paths[len(found)].name}: {done.stderr[-2_000:]}"
    return found


def assert_harmless(name: str, found: dict[str, Any]) -> None:
    assert found["wrong"] == 0, name
    foreign = {what: error for what, error in found["raised"].items() if not error.startswith(OURS)}
    assert not foreign, name


def test_what_would_run_with_our_statements_is_refused(tmp_path: Path, whole: bytes) -> None:
    paths = [changed(tmp_path / f"{name}.db", whole, script) for name, script in REFUSED.items()]
    before = [path.read_bytes() for path in paths]
    for name, found in zip(REFUSED, outcomes(paths), strict=True):
        assert set(found["raised"]) == {"open", "open to read", "rebuild"}, name
        assert all(error.startswith("CacheFileError") for error in found["raised"].values()), name
    assert [path.read_bytes() for path in paths] == before
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".db"] * len(paths)


def test_the_refusal_names_the_part_and_what_to_do(tmp_path: Path, whole: bytes) -> None:
    path = changed(tmp_path / "cache.db", whole, REFUSED["a view beside the tables"])
    for use in (lambda: SqliteCache(path), lambda: SqliteStore(path, read_only=True)):
        with pytest.raises(CacheFileError, match=r"cache\.db has a part .* 'costs'.*drop it"):
            use()


def test_odd_content_of_our_tables_is_used_or_told(tmp_path: Path, whole: bytes) -> None:
    paths = [changed(tmp_path / f"{name}.db", whole, script) for name, script in USED.items()]
    found = dict(zip(USED, outcomes(paths), strict=True))
    for name, outcome in found.items():
        assert_harmless(name, outcome)
    for name in (
        "nothing odd",
        "an index of the user's",
        "a table of the user's",
        "a unique index on a table of the user's",
        "accounts that are none",
    ):
        assert (found[name]["hits"], found[name]["raised"]) == (hostile.PROMPTS, {}), name
    for name in ("long text among numbers", "numbers out of range", "rows at the ends", "no runs", "no blobs"):
        assert found[name]["hits"] == hostile.PROMPTS, name
    for name in ("text for keys", "answers of each other"):
        assert found[name]["hits"] == 0, name


def test_a_function_of_the_file_does_not_run(tmp_path: Path, whole: bytes) -> None:
    """Even where the file gets a part of somebody's while it is open."""
    path = changed(tmp_path / "cache.db", whole, "")
    with SqliteCache(path) as cache, closing(sqlite3.connect(path, isolation_level=None)) as other:
        assert cache.get(hostile.prompt(0)) is not None
        other.execute("CREATE TRIGGER t AFTER INSERT ON entries BEGIN SELECT load_extension('/tmp/x.so'); END")
        for use in (lambda: cache.put(hostile.prompt(50), hostile.answer(50)), lambda: cache.get(hostile.prompt(0))):
            with pytest.raises(CacheFileError, match="trigger 't'"):
                use()
        other.execute("DROP TRIGGER t")
        cache.put(hostile.prompt(50), hostile.answer(50))
        assert cache.get(hostile.prompt(0)) == hostile.answer(0)


@pytest.mark.parametrize("text", [b"CREATE TABLE entries", b"entries", b"namespace"])
def test_names_that_are_no_text_are_damage(tmp_path: Path, whole: bytes, text: bytes) -> None:
    """SQLite quotes them in its message, which Python cannot read."""
    paths = []
    for place in range(whole.count(text, 0, 4_096)):
        pieces = whole.split(text)
        paths.append(tmp_path / f"{place}.db")
        paths[-1].write_bytes(text.join(pieces[: place + 1]) + b"\xa0" + text[1:] + text.join(pieces[place + 1 :]))
    for path, found in zip(paths, outcomes(paths), strict=True):
        assert_harmless(path.name, found)


def flipped(tmp_path: Path, whole: bytes, rounds: int, seed: int) -> None:
    """Files with some flipped bits: as a disk or a careless stranger leaves them."""
    pick = random.Random(seed)
    paths = []
    for number in range(rounds):
        data = bytearray(whole)
        for _ in range(pick.choice([1, 1, 2, 8])):
            bit = pick.randrange(len(data) * 8)
            data[bit // 8] ^= 1 << bit % 8
        paths.append(tmp_path / f"{number}.db")
        paths[-1].write_bytes(data)
    for path, found in zip(paths, outcomes(paths), strict=True):
        assert_harmless(path.name, found)


def test_flipped_bits_are_harmless_to_everything_that_is_done(tmp_path: Path, whole: bytes) -> None:
    flipped(tmp_path, whole, 25, 1)


@pytest.mark.long
def test_many_flipped_bits_are_harmless_to_everything_that_is_done(tmp_path: Path, whole: bytes) -> None:
    flipped(tmp_path, whole, 1_000, 2)
