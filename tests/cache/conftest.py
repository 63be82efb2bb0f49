"""Fixtures of the cache tests: one factory for each built-in cache, and an event loop that must not be blocked."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from lm_deluge.cache import DistributedDictCache, LevelDBCache, MemoryCache, RedisCache, ResponseCache, SqliteCache

from .redis_server import RedisServer

Make = Callable[..., ResponseCache]


@pytest.fixture(autouse=True)
def no_blocking() -> Iterator[BlockBuster]:
    """Fail a test whose event loop waits for a disk, a lock or a socket."""
    with blockbuster_ctx("lm_deluge") as found:
        yield found


class Shelf:
    """Makes caches of one kind over one and the same data; ``reopens`` says whether a closed one can be made again."""

    def __init__(self, kind: str, directory: Path, redis_url: str = "") -> None:
        self.kind = kind
        self._redis_url = redis_url
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
        if self.kind == "redis":
            return RedisCache(self._redis_url, cache_key)
        return MemoryCache(cache_key)

    def close(self) -> None:
        for cache in self._made:
            cache.close()


@pytest.fixture(params=["sqlite", "leveldb", "redis", "mapping", "memory"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    if request.param == "leveldb":
        pytest.importorskip("plyvel")
    shelf = Shelf(request.param, tmp_path, request.getfixturevalue("redis_url") if request.param == "redis" else "")
    yield shelf
    shelf.close()
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)


@pytest.fixture
def cache(shelf: Shelf) -> ResponseCache:
    return shelf.make()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server of this test process."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of that server, which is empty when the test begins."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url
