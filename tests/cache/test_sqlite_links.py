"""A file that is reached by a link is the file itself: its log, its locks and what is written beside it."""

from contextlib import closing
from pathlib import Path

import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.admin.archive import export
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import CacheFileError, ConfigError

from .helpers import answer, prompt


def to_the_file(folder: Path) -> Path:
    (link := folder / "elsewhere" / "link.db").symlink_to(folder / "real" / "team.db")
    return link


def relative(folder: Path) -> Path:
    (link := folder / "elsewhere" / "link.db").symlink_to("../real/team.db")
    return link


def to_a_link(folder: Path) -> Path:
    (link := folder / "link.db").symlink_to(relative(folder))
    return link


def directory(folder: Path) -> Path:
    (folder / "elsewhere" / "folder").symlink_to("../real")
    return folder / "elsewhere" / "folder" / "team.db"


@pytest.fixture(params=[to_the_file, relative, to_a_link, directory])
def link(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    (tmp_path / "real").mkdir()
    (tmp_path / "elsewhere").mkdir()
    made: Path = request.param(tmp_path)
    return made


def test_what_is_in_the_log_is_seen_by_a_link(link: Path, tmp_path: Path) -> None:
    real = tmp_path / "real" / "team.db"
    with SqliteCache(real) as team:
        team.put(prompt("before"), answer("x"))
        with SqliteCache(tmp_path / "mine.db", base=link) as mine, SqliteCache(link) as own:
            assert mine.get(prompt("before")) == answer("x")
            team.put(prompt("meanwhile"), answer("y"))
            assert mine.get(prompt("meanwhile")) == own.get(prompt("meanwhile")) == answer("y")
            own.put(prompt("back"), answer("z"))
            assert team.get(prompt("back")) == answer("z")
        with closing(SqliteStore(link, read_only=True)) as store:
            assert store.usage()["entries"] == len(list(store.scan())) == 3
            assert export(store, lambda line: None).entries == 3
            assert store.location == str(real)
    assert {path.name for path in real.parent.iterdir()} == {"team.db"}  # nothing is left beside it, nor by the link
    assert not [path for path in (tmp_path / "elsewhere").iterdir() if path.suffix not in {".db", ""}]


def test_rebuilding_by_a_link_makes_the_file_anew_and_keeps_the_link(link: Path, tmp_path: Path) -> None:
    real = tmp_path / "real" / "team.db"
    with SqliteCache(real) as team:
        team.put(prompt("p"), answer("x"))
    before = real.stat().st_ino
    links = [path for path in tmp_path.rglob("*") if path.is_symlink()]
    report = SqliteStore.rebuild_file(link)
    assert (Path(report.kept).parent, report.entries) == (real.parent, 1)
    assert Path(report.kept).stat().st_ino == before != real.stat().st_ino
    assert [path for path in tmp_path.rglob("*") if path.is_symlink()] == links


def test_a_cache_by_a_link_over_the_file_itself_is_told(link: Path, tmp_path: Path) -> None:
    SqliteCache(tmp_path / "real" / "team.db").close()
    with pytest.raises(ConfigError, match="over itself"):
        SqliteCache(link, base=tmp_path / "real" / "team.db")


def test_a_link_that_is_moved_goes_on_meaning_the_file_that_was_opened(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with SqliteCache(tmp_path / f"{name}.db") as cache:
            cache.put(prompt("p"), answer(name))
    (link := tmp_path / "link.db").symlink_to("old.db")
    with SqliteCache(tmp_path / "mine.db", base=link) as mine, SqliteCache(link) as cache:
        link.unlink()
        link.symlink_to("new.db")
        with SqliteCache(tmp_path / "old.db") as old:
            old.put(prompt("later"), answer("old"))
        assert mine.get(prompt("p")) == cache.get(prompt("p")) == answer("old")
        cache.put(prompt("q"), answer("old"))
        assert mine.get(prompt("q")) is None or mine.get(prompt("q")) == answer("old")
    with SqliteCache(tmp_path / "new.db") as new:
        assert new.get(prompt("q")) is None
    with SqliteCache(tmp_path / "old.db") as old:
        assert old.get(prompt("q")) == answer("old")


def test_a_link_to_a_file_that_is_not_there_yet_makes_that_file(tmp_path: Path) -> None:
    (link := tmp_path / "link.db").symlink_to(tmp_path / "deep" / "cache.db")
    with SqliteCache(link) as cache:
        cache.put(prompt("p"), answer("x"))
    assert link.is_symlink()
    assert (tmp_path / "deep" / "cache.db").is_file()
    assert (tmp_path / "deep").stat().st_mode & 0o777 == 0o700


def test_links_that_lead_to_each_other_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(CacheFileError, match="cannot be"):
        SqliteCache(tmp_path / "a")
