"""Where a cache is, as it is named on the command line. The registry of stores says what a name means."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_deluge.cache.stores import registry
from lm_deluge.errors import ConfigError

if TYPE_CHECKING:
    from lm_deluge.cache import ResponseCache
    from lm_deluge.cache.stores import RebuildReport, Store

__all__ = ["find", "open_cache", "open_cache_to_read", "open_store", "rebuild_file"]

_OPTIONS = ("base", "max_bytes")


def find(where: str) -> registry.Place:
    """What a name means. A path that does not exist yet is an SQLite file."""
    place = registry.find(where)
    if place.is_missing:
        from lm_deluge.prompt_cache import PATTERNS

        # In Python, ``cache=`` of a call takes a pattern, so here it is easily given as the local cache.
        if where in PATTERNS:
            raise ConfigError(
                f"{where!r} is a pattern of the provider's prompt cache, which goes to --cache-pattern. "
                f"For a local cache in a file of that name, give its path: ./{where}"
            )
    return place


def open_store(where: str, *, writing: bool = False) -> "Store":
    """The store of a cache that exists. A missing one is never made.

    Unless anything will be changed, a file is opened for reading only, and of a LevelDB directory a copy.
    """
    place = find(where)
    if place.is_missing:
        raise ConfigError(f"There is no cache at {where}.")
    return place.open(read_only=not writing)


def open_cache(where: str, options: Mapping[str, Any], *, offline: bool = False) -> "ResponseCache":
    """The cache for a run. A path where there is nothing yet becomes an SQLite file.

    Args:
        where: a path or a URL.
        options: arguments of the cache; ``base`` and ``max_bytes`` are for SQLite files.
        offline: whether the run only reads. Then a file that cannot be written will do, and a missing one is not made.
    """
    from lm_deluge.cache import ResponseCache

    place, given = find(where), dict(options)
    for name in _OPTIONS:
        if name in given and name not in place.kind.options:
            raise ConfigError(f"--{name.replace('_', '-')} is for caches in SQLite files.")
    read_only = offline and place.path is not None and not _is_writable(place.path)
    if offline and place.is_missing:
        raise ConfigError(f"There is no cache at {where}, so an offline run has nothing to answer from.")
    if not offline and place.path is not None and place.path.exists() and not os.access(place.path, os.W_OK):
        raise ConfigError(
            f"The cache {where} cannot be written. Answer from it alone with --offline, or give it as --base and "
            "a file of your own as --cache."
        )
    if read_only:
        given.pop("max_bytes", None)  # nothing is stored
    base = given.pop("base", None)
    return ResponseCache(
        registry.open_store(where, read_only=read_only, base=None if base is None else str(base)), **given
    )


def open_cache_to_read(where: str, options: Mapping[str, Any]) -> "ResponseCache | None":
    """The cache of a run, to look into it before the run; None where there is nothing yet."""
    from lm_deluge.cache import ResponseCache

    return None if find(where).is_missing else ResponseCache(open_store(where), **options)


def _is_writable(path: Path) -> bool:
    """Whether a store can write there. SQLite makes other files beside its own."""
    return os.access(path, os.W_OK) and (path.is_dir() or os.access(path.resolve().parent, os.W_OK))


def rebuild_file(where: str) -> "RebuildReport":
    """Rebuild an SQLite file from all that can be read of it. The old one is kept beside it."""
    from lm_deluge.cache.stores import RebuildableStore

    place = find(where)
    store = place.kind.load()
    if not issubclass(store, RebuildableStore):
        # A URL may hold a password.
        what = place.kind.capitalized if place.kind.is_server else f"{where}, {place.kind.called},"
        raise ConfigError(f"{what} cannot be rebuilt: --rebuild is for SQLite files.")
    if place.is_missing:
        raise ConfigError(f"There is no cache at {where}.")
    report: RebuildReport = store.rebuild_file(place.address)
    return report
