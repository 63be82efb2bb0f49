"""The built-in caches: a response cache over each store. ``ResponseCache`` documents what all of them take."""

from pathlib import Path
from typing import Any

from lm_deluge._clock import Clock
from lm_deluge.cache.admission import Admit
from lm_deluge.cache.record import Scope
from lm_deluge.cache.responses import ResponseCache
from lm_deluge.cache.spill import SpillPlace
from lm_deluge.cache.stores.leveldb import LevelDBStore
from lm_deluge.cache.stores.mapping import MappingStore
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.stores.overlay import OverlayStore
from lm_deluge.cache.stores.sqlite import SqliteStore, Synchronous

__all__ = ["DistributedDictCache", "LevelDBCache", "MemoryCache", "RedisCache", "SqliteCache"]


class SqliteCache(ResponseCache):
    """One SQLite file that many threads and processes of one machine may share. No extra dependency.

    The file is private (0600); so is its directory (0700) if it has to be made.

    Args:
        path: the file. ``~`` is expanded, and a relative path is taken from where the process is now.
        cache_key: a namespace within the file.
        synchronous: ``"NORMAL"`` survives the death of the process; ``"FULL"`` waits for the disk at each commit and
            survives a power cut as well.
        base: another cache file, to be read where this one has no answer, and never written: answers that a team
            shares, for example.
        scope, admit, ttl, max_bytes, clock: as in ``ResponseCache``.

    Raises:
        CacheFileError: the file is not a cache, is truncated, cannot be written, or is on a network file system. It is
            left untouched.
        CacheVersionError: another version of this package wrote it. It is left untouched.
        ConfigError: an argument has no meaning, or the path is ``":memory:"``.
    """

    def __init__(
        self,
        path: str | Path,
        cache_key: str = "default",
        *,
        synchronous: Synchronous = "NORMAL",
        base: str | Path | None = None,
        scope: Scope | None = None,
        admit: Admit = "answers",
        ttl: float | None = None,
        max_bytes: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        # The base first: if it is not there, no file of our own is left behind.
        below = None if base is None else SqliteStore(base, read_only=True)
        own = SqliteStore(path, synchronous=synchronous)
        store = own if below is None else OverlayStore(own, below)
        super().__init__(
            store, cache_key=cache_key, scope=scope, admit=admit, ttl=ttl, max_bytes=max_bytes, clock=clock
        )


class LevelDBCache(ResponseCache):
    """A LevelDB directory. Needs ``plyvel`` (``pip install plyvel``). One process at a time.

    Args:
        directory: the database's directory; made private (0700) if it has to be made.
        cache_key: a namespace within it.
        scope, admit, ttl, clock: as in ``ResponseCache``.

    Raises:
        ImportError: ``plyvel`` is missing.
        CacheFileError: the directory cannot be opened, is in use, or holds something else.
        ConfigError: an argument has no meaning.
    """

    def __init__(
        self,
        directory: str | Path,
        cache_key: str = "default",
        *,
        scope: Scope | None = None,
        admit: Admit = "answers",
        ttl: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(LevelDBStore(directory), cache_key=cache_key, scope=scope, admit=admit, ttl=ttl, clock=clock)


class MemoryCache(ResponseCache):
    """A dictionary of this process, gone when it ends.

    Args:
        cache_key: part of every key, as in the other caches.
        scope, admit, ttl, max_bytes, clock: as in ``ResponseCache``.

    Raises:
        ConfigError: an argument has no meaning.
    """

    def __init__(
        self,
        cache_key: str = "default",
        *,
        scope: Scope | None = None,
        admit: Admit = "answers",
        ttl: float | None = None,
        max_bytes: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            MemoryStore(), cache_key=cache_key, scope=scope, admit=admit, ttl=ttl, max_bytes=max_bytes, clock=clock
        )


class RedisCache(ResponseCache):
    """A Redis or Valkey server, for many machines. Needs ``redis`` (``pip install redis``).

    An answer is as safe as the server keeps it: with its defaults, a crash of the server loses the last seconds.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``; a password in it is never shown. Better keep it out: in
            ``LM_DELUGE_REDIS_PASSWORD``, or in a file that ``LM_DELUGE_REDIS_PASSWORD_FILE`` names.
        cache_key: a namespace within the server's database.
        ttl: seconds after which an answer is not served any more, and the server drops it.
        scope, admit, spill, clock: as in ``ResponseCache``.

    Raises:
        ImportError: ``redis`` is missing.
        CacheError: the server cannot be reached.
        ConfigError: an argument has no meaning.
    """

    def __init__(
        self,
        url: str,
        cache_key: str = "default",
        *,
        scope: Scope | None = None,
        admit: Admit = "answers",
        ttl: float | None = None,
        spill: SpillPlace = None,
        clock: Clock | None = None,
    ) -> None:
        from lm_deluge.cache.stores.redis import RedisStore  # few have a server

        super().__init__(
            RedisStore(url), cache_key=cache_key, scope=scope, admit=admit, ttl=ttl, spill=spill, clock=clock
        )


class DistributedDictCache(ResponseCache):
    """Any dictionary-like object, a Modal ``Dict`` for example.

    It needs ``get(key)`` and either ``put(key, value)`` or item assignment. Keys are text that starts with
    ``cache_key``; values are bytes. Where the object offers awaitable twins (``get.aio``, or coroutine functions) they
    are awaited; otherwise it is called in a worker thread.

    Args:
        mapping: the object. An empty one is used like any other.
        cache_key: a namespace within it.
        scope, admit, ttl, spill, clock: as in ``ResponseCache``.

    Raises:
        TypeError: the object can do neither.
        ConfigError: an argument has no meaning.
    """

    def __init__(
        self,
        mapping: Any,
        cache_key: str = "default",
        *,
        scope: Scope | None = None,
        admit: Admit = "answers",
        ttl: float | None = None,
        spill: SpillPlace = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            MappingStore(mapping, cache_key),
            cache_key=cache_key,
            scope=scope,
            admit=admit,
            ttl=ttl,
            spill=spill,
            clock=clock,
        )
