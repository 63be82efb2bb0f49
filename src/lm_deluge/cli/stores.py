"""Where a cache is, as it is named on the command line: an SQLite file, a LevelDB directory, or a Redis URL."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lm_deluge.errors import ConfigError

if TYPE_CHECKING:
    from lm_deluge.cache import ResponseCache
    from lm_deluge.cache.stores import Store

__all__ = ["kind_of", "open_cache", "open_store", "rebuild_file"]

_SERVERS = frozenset({"redis", "rediss", "unix", "valkey", "valkeys"})


def kind_of(where: str) -> Literal["sqlite", "leveldb", "redis"]:
    """What a name means. A path that does not exist yet is an SQLite file.

    Raises:
        ConfigError: a URL of something else, or a directory that is no LevelDB database.
    """
    scheme, separator, _ = where.partition("://")
    if separator:
        if scheme.lower() not in _SERVERS:
            # The rest may hold a password, so it is not repeated.
            raise ConfigError(f"A cache at {scheme}:// is not known; a path or a redis:// URL is needed.")
        return "redis"
    path = Path(where).expanduser()
    if not path.is_dir():
        return "sqlite"
    if not (path / "CURRENT").exists():
        raise ConfigError(f"{where} is a directory without a LevelDB database in it. Give the path of a cache.")
    return "leveldb"


def open_store(where: str, *, writing: bool = False) -> "Store":
    """The store of a cache that exists. A missing one is never made.

    Args:
        where: a path or a URL.
        writing: whether anything will be changed. Otherwise an SQLite file is opened for reading only.

    Raises:
        ConfigError: there is no cache there.
        CacheError: it cannot be opened.
        ImportError: the package for it is missing.
    """
    kind = kind_of(where)
    if kind == "redis":
        from lm_deluge.cache.stores.redis import RedisStore

        return RedisStore(where)
    if kind == "leveldb":
        from lm_deluge.cache.stores.leveldb import LevelDBStore

        return LevelDBStore(Path(where).expanduser())
    path = Path(where).expanduser()
    if not path.exists():
        raise ConfigError(f"There is no cache at {where}.")
    from lm_deluge.cache.stores.sqlite import SqliteStore

    return SqliteStore(path, read_only=not writing)


def open_cache(where: str, options: Mapping[str, Any]) -> "ResponseCache":
    """The cache for a run. A path where there is nothing yet becomes an SQLite file.

    Args:
        where: a path or a URL.
        options: arguments that all of the built-in caches take.

    Raises:
        ConfigError: the name or an option has no meaning.
        CacheError: it cannot be opened.
        ImportError: the package for it is missing.
    """
    from lm_deluge.cache import LevelDBCache, RedisCache, SqliteCache

    kind = kind_of(where)
    if kind == "redis":
        return RedisCache(where, **options)
    return LevelDBCache(where, **options) if kind == "leveldb" else SqliteCache(where, **options)


def rebuild_file(where: str) -> None:
    """Make an SQLite file anew from all that can be read of it. The old one is kept beside it.

    Raises:
        ConfigError: there is no SQLite file there.
        CacheError: it cannot be read, or somebody else has it open.
    """
    path = Path(where).expanduser()
    if kind_of(where) != "sqlite" or not path.exists():
        raise ConfigError(f"{path.name} is not an SQLite file, so there is nothing to rebuild.")
    from lm_deluge.cache.stores.sqlite import SqliteStore

    with closing(SqliteStore(path)) as store:
        store.rebuild()
