"""What a name of a store means, and that a new kind of store is a module and a row."""

import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lm_deluge.cache.entry import Entry
from lm_deluge.cache.stores import registry
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.stores.overlay import OverlayStore
from lm_deluge.cache.stores.registry import KINDS, Kind, find, open_store, recognize
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.cli import stores as cli
from lm_deluge.errors import CacheFileError, ConfigError

from .helpers import entry, key

GOLDEN = Path(__file__).parent / "golden" / "format_2.db"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(GOLDEN, "some.db")
    Path("some.level").mkdir()
    Path("some.level", "CURRENT").touch()
    Path("empty").mkdir()


@pytest.mark.parametrize(
    ("where", "kind", "address"),
    [
        ("some.db", "sqlite", "some.db"),
        ("new", "sqlite", "new"),
        ("a:b", "sqlite", "a:b"),
        ("unknown:b", "sqlite", "unknown:b"),
        ("sqlite:some.db", "sqlite", "some.db"),
        ("SQLite:some.db", "sqlite", "some.db"),
        ("sqlite:///tmp/x.db", "sqlite", "/tmp/x.db"),
        ("sqlite:some.level", "sqlite", "some.level"),
        ("./redis:x", "sqlite", "./redis:x"),
        ("redis:x", "sqlite", "redis:x"),
        ("some.level", "leveldb", "some.level"),
        ("leveldb:new", "leveldb", "new"),
        ("redis://host", "redis", "redis://host"),
        ("rediss://me:secret@host/1", "redis", "rediss://me:secret@host/1"),
        ("unix:///run/redis", "redis", "unix:///run/redis"),
        ("valkey://host", "redis", "valkey://host"),
        ("REDIS://host", "redis", "REDIS://host"),
    ],
)
def test_names_and_what_they_mean(where: str, kind: str, address: str) -> None:
    place = find(where)
    assert (place.kind.name, place.address) == (kind, address)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (" ", "is empty"),
        ("http://me:secret@host", r"^A cache at http:// is not known; a path or a redis:// URL is needed\.$"),
        ("empty", "without a LevelDB database"),
        ("sqlite:", "sqlite:PATH"),
        ("sqlite://host/path", "sqlite:PATH"),
    ],
)
def test_names_that_mean_nothing(where: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        find(where)
    assert "secret" not in str(raised.value)


def test_what_is_there_is_told_from_what_is_named() -> None:
    assert recognize("empty") is None
    assert (find("some.db").is_missing, find("some.db").is_of_its_kind) == (False, True)
    assert (find("new").is_missing, find("new").is_of_its_kind) == (True, False)
    assert (find("leveldb:new").is_missing, find("redis://host").is_missing) == (True, False)
    assert find("redis://host").is_of_its_kind


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_row_names_the_class_of_a_store(kind: Kind) -> None:
    store = kind.load()
    assert all(callable(getattr(store, name)) for name in ("get_many", "put_many", "quarantine", "delete", "close"))
    assert kind.is_server == (kind.is_at is None)
    assert kind.capitalized.startswith("A")


def test_a_base_is_opened_first_and_is_for_files() -> None:
    with pytest.raises(CacheFileError, match="no cache file"):
        open_store("own.db", base="absent.db")
    assert not Path("own.db").exists()
    for where, base in (("own.db", "some.level"), ("some.level", "some.db"), ("redis://host", "some.db")):
        with pytest.raises(ConfigError, match="with a base: that is for SQLite files"):
            open_store(where, base=base)
    assert not Path("own.db").exists()
    with closing(open_store("own.db", base="some.db")) as store:
        assert isinstance(store, OverlayStore)
        assert store.usage()["entries"] == 11
    with closing(open_store("sqlite:own.db", read_only=True)) as store:
        assert isinstance(store, SqliteStore)
        with pytest.raises(CacheFileError, match="reading only"):
            store.put_many([entry("a")])


class DirectoryStore(MemoryStore):
    """A kind of store that this package does not have: a file for each entry."""

    blocks: ClassVar[bool] = True

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        super().__init__()
        self.path, self.read_only = path, read_only
        path.mkdir(exist_ok=True)

    @property
    def location(self) -> str:
        return str(self.path)

    def put_many(self, entries: Sequence[Entry]) -> None:
        for one in entries:
            (self.path / one.key.hex()).write_bytes(one.value)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        paths = [self.path / key.hex() for key in keys]
        return [path.read_bytes() if path.exists() else None for path in paths]


def test_a_new_kind_is_a_module_and_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Kind(
        name="files",
        called="a directory of files",
        schemes=("files",),
        store=f"{__name__}:DirectoryStore",
        is_at=lambda path: path.name == "files",
    )
    monkeypatch.setattr(registry, "KINDS", (*KINDS, mine))
    options: dict[str, Any] = {"cache_key": "a"}
    with cli.open_cache("files:files", options) as cache:
        assert isinstance(cache.backend, DirectoryStore)
        cache.backend.put_many([entry("a", b"x")])
    with closing(cli.open_store("files")) as store:
        assert store.get_many([key("a")]) == [b"x"]
        assert isinstance(store, DirectoryStore)
        assert store.read_only
    with pytest.raises(ConfigError, match="--max-bytes is for"):
        cli.open_cache("files", {"max_bytes": 1})
    with pytest.raises(ConfigError, match="files, a directory of files, cannot be rebuilt"):
        cli.rebuild_file("files")
    with pytest.raises(ConfigError, match="no cache at files:other"):
        cli.open_store("files:other")
