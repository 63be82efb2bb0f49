"""Local caches of responses. ``SqliteCache`` is the one to start with."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_deluge.cache.builtin import DistributedDictCache, LevelDBCache, MemoryCache, RedisCache, SqliteCache
    from lm_deluge.cache.responses import ResponseCache

__all__ = ["DistributedDictCache", "LevelDBCache", "MemoryCache", "RedisCache", "ResponseCache", "SqliteCache"]

_WHERE = {"ResponseCache": "lm_deluge.cache.responses"}


def __getattr__(name: str) -> Any:
    # Imported on first use: sqlite3 alone takes longer to import than the rest of the package.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_WHERE.get(name, "lm_deluge.cache.builtin")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
