"""The built-in caches: a response cache over each store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_deluge.cache._each import look_up_all, look_up_each
from lm_deluge.cache.responses import Found, ResponseCache
from lm_deluge.cache.stores.leveldb import LevelDBStore
from lm_deluge.cache.stores.mapping import MappingStore
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.stores.sqlite import SqliteStore, Synchronous
from lm_deluge.prompt import Conversation
from lm_deluge.response import APIResponse

__all__ = ["DistributedDictCache", "LevelDBCache", "MemoryCache", "SqliteCache"]


class SqliteCache(ResponseCache):
    """One SQLite file that many threads and processes may share. No extra dependency.

    The file is private (0600); so is its directory (0700) if it has to be made.

    Args:
        path: the file. ``~`` is expanded, and a relative path is taken from where the process is now.
        cache_key: a namespace within the file.
        synchronous: ``"NORMAL"`` survives the death of the process; ``"FULL"`` waits for the disk at each commit and
            survives a power cut as well.

    Raises:
        CacheFileError: the file is not a cache, is truncated, or cannot be written. It is left untouched.
        CacheVersionError: a newer version of this package wrote it. It is left untouched.
        ConfigError: ``cache_key`` is empty, ``synchronous`` has another value, or the path is ``":memory:"``.
    """

    def __init__(self, path: str | Path, cache_key: str = "default", *, synchronous: Synchronous = "NORMAL") -> None:
        super().__init__(SqliteStore(path, synchronous=synchronous), cache_key=cache_key)


class LevelDBCache(ResponseCache):
    """A LevelDB directory. Needs ``plyvel`` (``pip install 'lm_deluge[leveldb]'``). One process at a time.

    Args:
        directory: the database's directory; made private (0700) if it has to be made.
        cache_key: a namespace within it.

    Raises:
        ImportError: ``plyvel`` is missing.
        CacheFileError: the directory cannot be opened, is in use, or holds something else.
    """

    def __init__(self, directory: str | Path, cache_key: str = "default") -> None:
        super().__init__(LevelDBStore(directory), cache_key=cache_key)


class MemoryCache(ResponseCache):
    """A dictionary of this process, gone when it ends.

    Args:
        cache_key: part of every key, as in the other caches.
    """

    def __init__(self, cache_key: str = "default") -> None:
        super().__init__(MemoryStore(), cache_key=cache_key)


class DistributedDictCache(ResponseCache):
    """Any dictionary-like object, a Modal ``Dict`` for example.

    It needs ``get(key)`` and either ``put(key, value)`` or item assignment. Keys are text that starts with
    ``cache_key``; values are bytes. Where the object offers awaitable twins (``get.aio``, or coroutine functions) they
    are awaited; otherwise it is called in a worker thread.

    Args:
        mapping: the object. An empty one is used like any other.
        cache_key: a namespace within it.

    Raises:
        TypeError: the object can do neither.
    """

    def __init__(self, mapping: Any, cache_key: str = "default") -> None:
        self._mapping = MappingStore(mapping, cache_key)
        super().__init__(self._mapping, cache_key=cache_key)

    async def get_many(self, prompts: Sequence[Conversation]) -> list[Found]:
        if self._mapping.async_get is None:
            return await super().get_many(prompts)
        self._check_open()
        return await look_up_all(self._fetch, prompts)

    async def store(self, prompt: Conversation, response: APIResponse) -> None:
        if self._mapping.async_put is None:
            await super().store(prompt, response)
            return
        self._check_open()
        await self._mapping.store(self._entry(prompt.load(), response))

    def _read(self, prompts: Sequence[Conversation]) -> list[Found]:
        return look_up_each(self._look_up, prompts)

    def _look_up(self, prompt: Conversation) -> Found:
        key = self._key(prompt)
        return self._found(key, self._mapping.get_many([key])[0])

    async def _fetch(self, prompt: Conversation) -> Found:
        key = self._key(prompt)
        value = await self._mapping.fetch(key)
        found = self._decode(key, value)
        if found.damage is None:
            return found
        try:
            await self._mapping.set_aside_async(key, value)
        except Exception as error:  # noqa: BLE001 - a damaged entry is a miss even where it cannot be moved
            return Found(damage=f"{found.damage} (it could not be set aside: {error})")
        return found
