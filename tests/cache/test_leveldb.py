"""What is particular to LevelDB: an optional dependency, a directory, one process at a time."""

import asyncio
import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from lm_deluge.cache import LevelDBCache
from lm_deluge.errors import CacheError, CacheFileError

from .helpers import answer, fingerprints, prompt, run_child

plyvel = pytest.importorskip("plyvel")


def test_without_plyvel_only_its_use_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plyvel", None)
    with pytest.raises(ImportError, match=r"pip install 'lm_deluge\[leveldb\]'"):
        LevelDBCache(tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []
    check = "import sys; sys.modules['plyvel'] = None; from lm_deluge.cache import LevelDBCache, SqliteCache"
    subprocess.run([sys.executable, "-c", check], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    LevelDBCache(tmp_path / "deep" / "cache").close()
    assert (tmp_path / "deep" / "cache").stat().st_mode & 0o777 == 0o700


def test_a_directory_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter 1")
    (tmp_path / "CURRENT").write_text("not a database")
    before = fingerprints(tmp_path)
    with pytest.raises(CacheFileError, match=r"thesis\.txt"):
        LevelDBCache(tmp_path)
    assert fingerprints(tmp_path) == before


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheFileError, match="is a file"):
        LevelDBCache(tmp_path / "file")
    with pytest.raises(CacheFileError, match="cannot be made"):
        LevelDBCache(tmp_path / "file" / "below")


def test_another_programs_database_is_refused_with_its_data_intact(tmp_path: Path) -> None:
    database = plyvel.DB(str(tmp_path / "other"), create_if_missing=True)
    database.put(b"their", b"data")
    database.close()
    with pytest.raises(CacheFileError, match="another program"):
        LevelDBCache(tmp_path / "other")
    database = plyvel.DB(str(tmp_path / "other"))
    assert list(database) == [(b"their", b"data")]
    database.close()


def test_a_start_that_was_cut_off_can_be_made_again(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    directory.mkdir()
    for name in ("LOCK", "LOG", "MANIFEST-000001", "000001.dbtmp"):
        (directory / name).touch()
    with LevelDBCache(directory) as cache:
        cache.put(prompt("p"), answer("x"))
    with LevelDBCache(directory) as cache:
        assert cache.get(prompt("p")) == answer("x")


def test_a_second_process_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with LevelDBCache(tmp_path / "cache") as cache:
        said = run_child("open_leveldb", tmp_path / "cache")
        assert said.startswith("CacheFileError")
        assert "SqliteCache" in said
        cache.put(prompt("p"), answer("x"))


def use_in_child(cache: LevelDBCache) -> None:
    for use in (lambda: cache.get(prompt("p")), lambda: cache.put(prompt("p"), answer("y"))):
        with pytest.raises(CacheError, match="one process at a time"):
            use()
    cache.close()


def test_a_forked_child_is_refused_and_the_parent_goes_on(tmp_path: Path) -> None:
    with LevelDBCache(tmp_path / "cache") as cache:
        cache.put(prompt("p"), answer("x"))
        child = multiprocessing.get_context("fork").Process(target=use_in_child, args=(cache,))
        child.start()
        child.join(30)
        assert child.exitcode == 0
        cache.put(prompt("q"), answer("y"))
    with LevelDBCache(tmp_path / "cache") as cache:
        assert (cache.get(prompt("p")), cache.get(prompt("q"))) == (answer("x"), answer("y"))


def test_damaged_bytes_are_kept(tmp_path: Path) -> None:
    with LevelDBCache(tmp_path / "cache") as cache:
        cache.put(prompt("p"), answer("x"))
        key = cache._key(prompt("p"))
        cache._store._db.put(b"e" + key, b"\x01broken")  # type: ignore[attr-defined]
        assert asyncio.run(cache.get_many([prompt("p")]))[0].damage
        assert cache._store._db.get(b"d" + key) == b"\x01broken"  # type: ignore[attr-defined]
