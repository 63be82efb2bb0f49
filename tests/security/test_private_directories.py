"""Each directory that is made is its owner's alone, at every level and whatever the umask."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lm_deluge._files import make_private_directories
from lm_deluge.cache import LevelDBCache, SqliteCache
from lm_deluge.cache.stores.sqlite import SqliteStore

SOURCE = Path(__file__).parents[2] / "src" / "lm_deluge"


@pytest.fixture(params=[0, 0o022, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


MAKERS: dict[str, Callable[[Path], object]] = {
    "the helper": make_private_directories,
    "SqliteCache": lambda path: SqliteCache(path / "cache.db").close(),
    "SqliteCache over a base": lambda path: SqliteCache(path / "cache.db", base=path.parents[2] / "base.db").close(),
    "LevelDBCache": lambda path: LevelDBCache(path).close(),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_every_level_of_what_is_made_is_private(tmp_path: Path, umask: int, maker: str) -> None:
    if umask == 0o777 and maker != "the helper":
        pytest.skip("LevelDB and SQLite cannot open what they make themselves under such a umask")
    (there := tmp_path / "there").mkdir()
    there.chmod(0o755)
    if "base" in maker:
        SqliteStore(tmp_path / "base.db").close()
    if maker == "LevelDBCache":
        pytest.importorskip("plyvel")
    MAKERS[maker](there / "a" / "b")
    made = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in (there, *there.rglob("*/"))}
    directories = {name: mode for name, mode in made.items() if (tmp_path / name).is_dir()}
    assert directories == {"there": 0o755, "there/a": 0o700, "there/a/b": 0o700}


def test_nothing_else_makes_directories() -> None:
    makers = re.compile(r"\.mkdir\(|makedirs\(")
    found = {
        path.relative_to(SOURCE).as_posix(): path.read_text()
        for path in SOURCE.rglob("*.py")
        if makers.search(path.read_text())
    }
    # One makes the directory of a copy within a private temporary one, and one serves tests of stores.
    assert set(found) == {"_files.py", "cache/stores/leveldb/files.py", "testing/_store_checks.py"}
