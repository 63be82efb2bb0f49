"""The file is replaced or removed while it is in use: what takes its place is whole, and keeps all that it holds."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.errors import CacheFileError

from .helpers import answer, prompt


def filled(path: Path, names: Sequence[str]) -> Path:
    with SqliteCache(path) as cache:
        for name in names:
            cache.put(prompt(name), answer(name))
    return path


def missing(path: Path, names: Sequence[str]) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with SqliteCache(path) as cache:
        return [name for name in names if cache.get(prompt(name)) != answer(name)]


OLD = [f"old {number}" for number in range(10)]
NEW = [f"new {number}" for number in range(60)]


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    path = filled(tmp_path / "cache.db", OLD)
    shutil.copy(path, tmp_path / "backup.db")
    return path, filled(tmp_path / "backup.db", NEW)


@pytest.mark.parametrize("is_new", [False, True])
@pytest.mark.parametrize("in_log", [0, 1, 40])
def test_what_is_stored_after_it_goes_into_the_new_file(paths: tuple[Path, Path], in_log: int, *, is_new: bool) -> None:
    path, backup = paths
    if is_new:
        path.unlink()
    with SqliteCache(path) as cache, SqliteCache(path) as second, SqliteCache(path) as reader:
        assert (reader.get(prompt(OLD[0])) is None) == is_new
        for number in range(in_log):
            cache.put(prompt(f"middle {number}"), answer("x" * 500))
            second.put(prompt(f"second {number}"), answer("x" * 500))
        backup.replace(path)
        for number in range(3):
            cache.put(prompt(f"first {number}"), answer(f"first {number}"))
            second.put(prompt(f"other {number}"), answer(f"other {number}"))
        assert cache.get(prompt(NEW[0])) == answer(NEW[0])
    later = [f"{who} {number}" for who in ("first", "other") for number in range(3)]
    assert missing(path, OLD + NEW + later) == []


def forked(cache: SqliteCache) -> None:
    cache.backend._database.pause()  # type: ignore[union-attr]
    cache.backend._database.resume()  # type: ignore[union-attr]


ENDS: dict[str, Callable[[SqliteCache], object]] = {
    "closed": lambda cache: cache.close(),
    "forked": forked,
    "read": lambda cache: cache.get(prompt(NEW[0])),
}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_of_the_old_file_is_laid_over_the_new_one_where_nothing_more_is_written(
    paths: tuple[Path, Path], end: str
) -> None:
    path, backup = paths
    with SqliteCache(path) as cache:
        for number in range(40):
            cache.put(prompt(f"middle {number}"), answer("x" * 500))
        backup.replace(path)
        ENDS[end](cache)
    assert missing(path, OLD + NEW) == []


def test_a_file_that_is_removed_is_begun_anew(paths: tuple[Path, Path]) -> None:
    path, _ = paths
    with SqliteCache(path) as cache:
        for number in range(40):
            cache.put(prompt(f"middle {number}"), answer("x" * 500))
        path.unlink()
        cache.put(prompt("later"), answer("later"))
        assert cache.get(prompt("later")) == answer("later")
        assert cache.get(prompt(OLD[0])) is None
    assert missing(path, ["later"]) == []


PROGRAM = """
import sys
from lm_deluge.cache import SqliteCache
from tests.cache.helpers import answer, prompt

with SqliteCache(sys.argv[1]) as cache:
    for number in range(30):
        cache.put(prompt(f"process {number}"), answer("x" * 500))
    print("ready", flush=True)
    sys.stdin.readline()
    cache.put(prompt("other"), answer("other"))
"""


def test_another_process_that_had_the_old_file_goes_on_in_the_new_one(paths: tuple[Path, Path]) -> None:
    path, backup = paths
    environ = {"PYTHONPATH": ":".join([str(Path(__file__).parents[2]), *filter(None, sys.path)])}
    with (
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        ) as other,
        SqliteCache(path) as cache,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        cache.put(prompt("before"), answer("before"))
        backup.replace(path)
        cache.put(prompt("mine"), answer("mine"))
        other.communicate("go\n", timeout=60)
        assert other.returncode == 0
        cache.put(prompt("later"), answer("later"))
    assert missing(path, [*OLD, *NEW, "mine", "other", "later"]) == []


def test_a_reader_of_the_old_file_that_does_not_end_is_told(
    paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm_deluge.cache.stores.sqlite.database._EMPTY_SECONDS", 0.05)
    path, backup = paths
    with SqliteCache(path) as cache, closing(sqlite3.connect(path, isolation_level=None)) as other:
        cache.put(prompt("a"), answer("a"))
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM entries").fetchone()
        cache.put(prompt("b"), answer("b"))
        backup.replace(path)
        with pytest.raises(CacheFileError, match="was replaced or removed while it was in use"):
            cache.put(prompt("c"), answer("c"))
        other.execute("COMMIT")
        cache.put(prompt("d"), answer("d"))
    assert missing(path, [*OLD, *NEW, "d"]) == []
