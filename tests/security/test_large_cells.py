"""Cells of any size in an SQLite file of somebody else: they are damage, and are neither read nor copied."""

import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.admin.archive import export
from lm_deluge.cache.admin.archive.bundle import MediaLine, seal
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.cache.stores.sqlite import check as _sqlite_check
from lm_deluge.cache.stores.sqlite import connection as _sqlite_connection
from lm_deluge.cache.stores.sqlite import rows as _sqlite_rows
from lm_deluge.errors import CacheError, CacheWarning
from lm_deluge.testing._store_checks import entry, key_of

from ..cache.helpers import answer, prompt

MODEL = "gpt-4.1-mini-2025-04-14"
LIMIT = 4 * 1024 * 1024
COLUMNS = {
    "entries": (
        "namespace created asked model finish_reason input_tokens output_tokens cache_read_tokens cache_write_tokens "
        "cost run expires used refers response request"
    ),
    "blobs": "refers data",
    "set_aside": "key at reason refers response request",
    "holders": "count",
    "leases": "holder expires",
    "runs": "started name tags models prompts calls hits errors cost cost_avoided report",
}


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_sqlite_connection, _sqlite_check, _sqlite_rows):
        monkeypatch.setattr(module, "MOST_CELL_BYTES", LIMIT)


def filled(path: Path) -> Path:
    with SqliteCache(path) as cache:
        for name in ("p", "q", "r", "s"):
            cache.put(prompt("long " * 500 + name), answer(name))
        cache.backend.quarantine(cache.key(prompt("long " * 500 + "s")), _value(cache, "s"), "why")  # type: ignore[attr-defined]
    return path


def _value(cache: SqliteCache, name: str) -> Any:
    (value,) = cache.backend.get_many([cache.key(prompt("long " * 500 + name))])  # type: ignore[union-attr]
    return value


def enlarge(path: Path, table: str, column: str, value: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        where = "" if table != "entries" else "WHERE rowid = 2"
        database.execute("INSERT OR IGNORE INTO runs (id, started, tags, models) VALUES (1, 1.0, '[]', '[]')")
        database.execute("INSERT OR IGNORE INTO leases VALUES (x'00', x'01', 1.0)")
        database.execute(f"UPDATE {table} SET {column} = {value} {where}")


BYTES = {"key", "refers", "response", "request", "data", "holder"}
CASES = [(table, column) for table, columns in COLUMNS.items() for column in columns.split()]


@pytest.mark.usefixtures("low_limit")
@pytest.mark.parametrize(("table", "column"), CASES)
def test_a_long_cell_in_any_column_costs_no_more_than_its_row(tmp_path: Path, table: str, column: str) -> None:
    value = f"zeroblob({LIMIT + 1})" if column in BYTES else f"hex(zeroblob({LIMIT // 2 + 1}))"
    path = filled(tmp_path / "cache.db")
    enlarge(path, table, column, value)
    size = path.stat().st_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        with SqliteCache(tmp_path / "own.db", base=path) as over:
            found = [over.get(prompt("long " * 500 + name)) for name in ("p", "q", "r")]
            assert (found[0], found[2]) == (answer("p"), answer("r"))
            assert found[1] in (answer("q"), None)
            assert over.get(prompt("long " * 500 + "q")) == found[1]
        assert sum(file.stat().st_size for file in tmp_path.glob("own.db*")) < 200_000
        look(SqliteStore(path, read_only=True))
        look(SqliteStore(path))
        with closing(SqliteStore(path)) as store:
            told(lambda: store.acquire([key_of("x")], b"me", now=2.0, seconds=1.0))
            store.put_many([entry("new")])
            assert store.get_many([key_of("new")]) == [b"value"]
        with SqliteCache(path) as cache:
            cache.put(prompt("long " * 500 + "q"), answer("anew"))  # it can be replaced
            assert cache.get(prompt("long " * 500 + "q")) == answer("anew")
        assert path.stat().st_size < size + 200_000
        told(lambda: SqliteStore.rebuild_file(path))


def told(use: Callable[[], object]) -> None:
    with suppress(CacheError):
        use()


def look(store: SqliteStore) -> None:
    with closing(store):
        told(lambda: [*store.scan()])
        told(lambda: [*store.quarantined()])
        told(lambda: [*store.runs()])
        told(lambda: export(store, lambda line: None))
        told(store.usage)
        told(lambda: [*store.verify()])


@pytest.mark.usefixtures("low_limit")
def test_an_answer_that_is_too_long_is_told_and_quarantined_without_its_content(tmp_path: Path) -> None:
    path = filled(tmp_path / "cache.db")
    enlarge(path, "entries", "response", f"zeroblob({LIMIT + 1})")
    with SqliteCache(path) as cache:
        (said,) = cache.backend.verify()  # type: ignore[union-attr]
        assert said == f"entry 2 has a cell of {LIMIT + 1:,} bytes, and no entry has more than {LIMIT:,}"
        with pytest.warns(CacheWarning, match="It was quarantined"):
            assert cache.get(prompt("long " * 500 + "q")) is None
        _, kept = cache.backend.quarantined()  # type: ignore[union-attr]
        assert (kept.value, kept.request) == (b"", b"")
        assert f"{LIMIT + 1} bytes" in kept.reason
        assert list(cache.backend.verify()) == []  # type: ignore[union-attr]


def test_a_note_of_damage_in_a_base_holds_small_content_only(tmp_path: Path) -> None:
    path = filled(tmp_path / "base.db")
    enlarge(path, "entries", "response", "zeroblob(20000000)")
    with SqliteCache(tmp_path / "own.db", base=path) as cache:
        with pytest.warns(CacheWarning, match="It was quarantined"):
            assert cache.get(prompt("long " * 500 + "q")) is None
        *_, kept = cache.backend.quarantined()  # type: ignore[union-attr]
        assert kept.value == b""
        assert kept.request != b""
        assert "20,000,000 bytes with SHA-256" in kept.reason
        assert sum(file.stat().st_size for file in tmp_path.glob("own.db*")) < 200_000


def test_text_without_end_among_the_facts_is_left_out(tmp_path: Path) -> None:
    path = filled(tmp_path / "cache.db")
    enlarge(path, "entries", "model", "hex(zeroblob(1000000))")
    with closing(SqliteStore(path, read_only=True)) as store:
        assert [stored.facts.model for stored in store.scan()] == [MODEL, None, MODEL]


PROGRAM = """
import resource, sys, warnings
from pathlib import Path
from lm_deluge.cache import SqliteCache
from lm_deluge.cache.admin.archive import export
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import LMDelugeError
from lm_deluge.cache.admin.archive.bundle import MediaLine, seal

warnings.simplefilter("ignore")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {more},) * 2)
{work}
"""


def run(work: str, *arguments: object, more: int) -> subprocess.CompletedProcess[str]:
    environ = {"PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONFAULTHANDLER": "1"}
    command = [sys.executable, "-c", PROGRAM.format(work=work, more=more), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize("column", ["response", "model"])
def test_a_cell_above_the_limit_takes_no_memory(tmp_path: Path, column: str) -> None:
    path = filled(tmp_path / "cache.db")
    enlarge(path, "entries", column, "zeroblob(280000000)")
    done = run(
        "store = SqliteStore(sys.argv[1], read_only=True)\n"
        "print(len(list(store.scan())), export(store, lambda line: None).entries, len(list(store.verify())))",
        path,
        more=150_000_000,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "2", "1"]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_line_for_which_there_is_no_memory_is_an_exception_and_no_crash(tmp_path: Path) -> None:
    """What ended the import of a base with 280 MB in one column: the encoder writes to where it has no memory."""
    work = """
line = MediaLine(b'a' * 100_000_000)
try:
    seal(line)
except MemoryError:
    print('no memory')
"""
    done = run(work, more=300_000_000)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no memory")
    name, sealed = seal(MediaLine(b"abc"))
    assert name.encode() in sealed
