"""The built-in caches: a response cache over each store."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
        path: the file.
        cache_key: a namespace within the file.
        synchronous: ``"NORMAL"`` survives the death of the process; ``"FULL"`` waits for the disk at each commit and
            survives a power cut as well.

    Raises:
        CacheFileError: the file is not a cache, is truncated, or cannot be written. It is left untouched.
        CacheVersionError: a newer version of this package wrote it. It is left untouched.
    """

    def __init__(
        self, path: str | Path, cache_key: str = "default", *, synchronous: Synchronous = "NORMAL"
    ) -> None:
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
        get = self._mapping.async_get
        if get is None:
            return await super().get_many(prompts)
        keys = [self._key(prompt) for prompt in prompts]
        values = await asyncio.gather(*(get(self._mapping.name(key)) for key in keys))
        return [Found() if value is None else self._decode(key, value) for key, value in zip(keys, values, strict=True)]

    async def store(self, prompt: Conversation, response: APIResponse) -> None:
        put = self._mapping.async_put
        if put is None:
            return await super().store(prompt, response)
        entry = self._entry(prompt.load(), response)
        await put(self._mapping.name(entry.key), entry.value)
        return None
