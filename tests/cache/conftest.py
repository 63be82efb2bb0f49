"""Fixtures of the cache tests: one factory for each built-in cache, and an event loop that must not be blocked."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from lm_deluge.cache import DistributedDictCache, LevelDBCache, MemoryCache, ResponseCache, SqliteCache

Make = Callable[..., ResponseCache]


@pytest.fixture(autouse=True)
def no_blocking() -> Iterator[BlockBuster]:
    """Fail a test whose event loop waits for a disk, a lock or a socket."""
    with blockbuster_ctx("lm_deluge") as found:
        yield found


class Shelf:
    """Makes caches of one kind over one and the same data; ``reopens`` says whether a closed one can be made again."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.reopens = kind != "memory"
        self._directory = directory
        self._data: dict[str, bytes] = {}
        self._made: list[ResponseCache] = []

    def make(self, cache_key: str = "default") -> ResponseCache:
        cache = self._new(cache_key)
        self._made.append(cache)
        return cache

    def _new(self, cache_key: str) -> ResponseCache:
        if self.kind == "sqlite":
            return SqliteCache(self._directory / "cache.db", cache_key)
        if self.kind == "leveldb":
            return LevelDBCache(self._directory / "cache", cache_key)
        if self.kind == "mapping":
            return DistributedDictCache(self._data, cache_key)
        return MemoryCache(cache_key)

    def close(self) -> None:
        for cache in self._made:
            cache.close()


@pytest.fixture(params=["sqlite", "leveldb", "mapping", "memory"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    if request.param == "leveldb":
        pytest.importorskip("plyvel")
    shelf = Shelf(request.param, tmp_path)
    yield shelf
    shelf.close()
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)


@pytest.fixture
def cache(shelf: Shelf) -> ResponseCache:
    return shelf.make()
