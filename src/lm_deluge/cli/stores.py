"""Where a cache is, as it is named on the command line: an SQLite file, a LevelDB directory, or a Redis URL."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lm_deluge.errors import ConfigError

if TYPE_CHECKING:
    from lm_deluge.cache import ResponseCache
    from lm_deluge.cache.stores import Store
    from lm_deluge.cache.stores.sqlite.rebuild import RebuildReport

__all__ = ["kind_of", "open_cache", "open_cache_to_read", "open_store", "rebuild_file"]

_SERVERS = frozenset({"redis", "rediss", "unix", "valkey", "valkeys"})


def kind_of(where: str) -> Literal["sqlite", "leveldb", "redis"]:
    """What a name means. A path that does not exist yet is an SQLite file.

    Raises:
        ConfigError: nothing, a URL of something else, a directory that is no LevelDB database, or a pattern of the
            provider's prompt cache.
    """
    if not where.strip():
        raise ConfigError("The name of the cache is empty. Give an SQLite file, a LevelDB directory or a redis:// URL.")
    scheme, separator, _ = where.partition("://")
    if separator:
        if scheme.lower() not in _SERVERS:
            # The rest may hold a password, so it is not repeated.
            raise ConfigError(f"A cache at {scheme}:// is not known; a path or a redis:// URL is needed.")
        return "redis"
    path = Path(where).expanduser()
    if not path.exists():
        _check_is_no_pattern(where)
    if not path.is_dir():
        return "sqlite"
    if not (path / "CURRENT").exists():
        raise ConfigError(f"{where} is a directory without a LevelDB database in it. Give the path of a cache.")
    return "leveldb"


def _check_is_no_pattern(where: str) -> None:
    """In Python, ``cache=`` of a call takes a pattern, so here it is easily given as the local cache."""
    from lm_deluge.prompt_cache import PATTERNS

    if where in PATTERNS:
        raise ConfigError(
            f"{where!r} is a pattern of the provider's prompt cache, which goes to --cache-pattern. "
            f"For a local cache in a file of that name, give its path: ./{where}"
        )


def open_store(where: str, *, writing: bool = False) -> "Store":
    """The store of a cache that exists. A missing one is never made.

    Args:
        where: a path or a URL.
        writing: whether anything will be changed. Otherwise a file is opened for reading only, and of a LevelDB
            directory a copy.

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

        return LevelDBStore(Path(where).expanduser(), read_only=not writing)
    path = Path(where).expanduser()
    if not path.exists():
        raise ConfigError(f"There is no cache at {where}.")
    from lm_deluge.cache.stores.sqlite import SqliteStore

    return SqliteStore(path, read_only=not writing)


def open_cache(where: str, options: Mapping[str, Any], *, offline: bool = False) -> "ResponseCache":
    """The cache for a run. A path where there is nothing yet becomes an SQLite file.

    Args:
        where: a path or a URL.
        options: arguments of the cache; ``base`` and ``max_bytes`` are for SQLite files.
        offline: whether the run only reads. Then a file that cannot be written will do, and a missing one is not made.

    Raises:
        ConfigError: the name or an option has no meaning.
        CacheError: it cannot be opened.
        ImportError: the package for it is missing.
    """
    from lm_deluge.cache import LevelDBCache, RedisCache, SqliteCache

    kind = kind_of(where)
    if kind == "sqlite":
        path = Path(where).expanduser()
        if offline and not path.exists():
            raise ConfigError(f"There is no cache at {where}, so an offline run has nothing to answer from.")
        if offline and not _is_writable(path):
            return _read_only_cache(path, dict(options))
        if path.exists() and not os.access(path, os.W_OK):
            raise ConfigError(
                f"The cache {where} cannot be written. Answer from it alone with --offline, or give it as --base and "
                "a file of your own as --cache."
            )
        return SqliteCache(where, **options)
    for name in ("base", "max_bytes"):
        if name in options:
            raise ConfigError(f"--{name.replace('_', '-')} is for caches in SQLite files.")
    return RedisCache(where, **options) if kind == "redis" else LevelDBCache(where, **options)


def open_cache_to_read(where: str, options: Mapping[str, Any]) -> "ResponseCache | None":
    """The cache of a run, to look into it before the run; None where there is nothing yet.

    Args:
        where: a path or a URL.
        options: ``cache_key`` and ``scope``, as for the run.

    Raises:
        ConfigError: the name or an option has no meaning.
        CacheError: it cannot be opened.
        ImportError: the package for it is missing.
    """
    from lm_deluge.cache import ResponseCache

    if kind_of(where) == "sqlite" and not Path(where).expanduser().exists():
        return None
    return ResponseCache(open_store(where), **options)


def _is_writable(path: Path) -> bool:
    """Whether SQLite can write a file, for which it makes others beside it."""
    return os.access(path, os.W_OK) and os.access(path.resolve().parent, os.W_OK)


def _read_only_cache(path: Path, options: dict[str, Any]) -> "ResponseCache":
    from lm_deluge.cache import ResponseCache
    from lm_deluge.cache.stores.overlay import OverlayStore
    from lm_deluge.cache.stores.sqlite import SqliteStore

    options.pop("max_bytes", None)  # nothing is stored
    base = options.pop("base", None)
    own = SqliteStore(path, read_only=True)
    store = own if base is None else OverlayStore(own, SqliteStore(base, read_only=True))
    return ResponseCache(store, **options)


def rebuild_file(where: str) -> "RebuildReport":
    """Make an SQLite file anew from all that can be read of it. The old one is kept beside it.

    Raises:
        ConfigError: there is no SQLite file there.
        CacheError: it is no cache, cannot be read, or somebody else has it open.
    """
    kind = kind_of(where)
    if kind != "sqlite":
        what = "A Redis server" if kind == "redis" else f"{where}, a LevelDB directory,"  # a URL may hold a password
        raise ConfigError(f"{what} cannot be made anew: --rebuild is for SQLite files.")
    if not Path(where).expanduser().exists():
        raise ConfigError(f"There is no cache at {where}.")
    from lm_deluge.cache.stores.sqlite import SqliteStore

    return SqliteStore.rebuild_file(where)
