"""Where a store is, as people write it: a path, a scheme and a path, or a URL. The only list of all kinds of stores.

A new kind is a module with a store's class, and a row of ``KINDS`` here. The command line then knows it too.
"""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from lm_deluge.cache.stores import Store
from lm_deluge.errors import ConfigError

__all__ = ["KINDS", "Kind", "Place", "find", "open_store", "recognize"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_SQLITE = b"SQLite format 3\0"


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of stores.

    Attributes:
        name: one word.
        called: what a place of this kind is called in messages.
        schemes: what its places may begin with, before a colon.
        store: module and class, ``"package.module:Class"``. The class is called with the URL of a server; with a path
            and ``read_only=`` otherwise.
        is_server: whether its places are URLs, which may hold a password. Otherwise they are paths.
        is_at: whether something at a path is of this kind. Not for servers.
        options: arguments of a cache that not every kind of store can take: ``"base"``, ``"max_bytes"``.
    """

    name: str
    called: str
    schemes: tuple[str, ...]
    store: str
    is_server: bool = False
    is_at: Callable[[Path], bool] | None = None
    options: frozenset[str] = frozenset()

    @property
    def capitalized(self) -> str:
        """The same at the beginning of a sentence."""
        return self.called[0].upper() + self.called[1:]

    def load(self) -> Any:
        """The class. Its module is imported now."""
        module, _, name = self.store.partition(":")
        return getattr(importlib.import_module(module), name)


def _is_sqlite(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


KINDS = (
    Kind(  # also what a path is where nothing is there yet
        name="sqlite",
        called="an SQLite file",
        schemes=("sqlite",),
        store="lm_deluge.cache.stores.sqlite:SqliteStore",
        is_at=_is_sqlite,
        options=frozenset({"base", "max_bytes"}),
    ),
    Kind(
        name="leveldb",
        called="a LevelDB directory",
        schemes=("leveldb",),
        store="lm_deluge.cache.stores.leveldb:LevelDBStore",
        is_at=lambda path: (path / "CURRENT").exists(),
    ),
    Kind(
        name="redis",
        called="a Redis server",
        schemes=("redis", "rediss", "unix", "valkey", "valkeys"),
        store="lm_deluge.cache.stores.redis:RedisStore",
        is_server=True,
    ),
)


class Place(msgspec.Struct, frozen=True):
    """Where a store is, or is to be made.

    Attributes:
        kind: of the store.
        address: a URL where the kind is a server's, which may hold a password; else a path.
    """

    kind: Kind
    address: str

    @property
    def path(self) -> Path | None:
        """The path, with ``~`` expanded; None for a server."""
        return None if self.kind.is_server else Path(self.address).expanduser()

    @property
    def is_missing(self) -> bool:
        """Whether nothing exists at the path. For a server this is not known."""
        return self.path is not None and not self.path.exists()

    @property
    def is_of_its_kind(self) -> bool:
        """Whether what exists there looks like a store of this kind. Servers are not asked."""
        return self.path is None or self.kind.is_at is None or self.kind.is_at(self.path)

    def open(self, *, read_only: bool = False) -> Store:
        """The store. One that is missing is made, unless it is only read.

        Raises:
            CacheError: it cannot be opened.
            ConfigError: the address has no meaning.
            ImportError: the package for it is missing.
        """
        opened: Store = (
            self.kind.load()(self.address) if self.path is None else self.kind.load()(self.path, read_only=read_only)
        )
        return opened


def find(where: str) -> Place:
    """What a name of a store means.

    Args:
        where: ``my_cache.db``, ``sqlite:my_cache.db``, a LevelDB directory, ``leveldb:directory``, or a URL such as
            ``redis://host``. A path where nothing is yet is an SQLite file.

    Raises:
        ConfigError: it is empty, a URL of something else, or a directory that holds no store.
    """
    place = recognize(where)
    if place is None:
        raise ConfigError(f"{where} is a directory without a LevelDB database in it. Give the path of a cache.")
    return place


def recognize(where: str) -> Place | None:
    """As ``find``; None for a directory that holds no store.

    Raises:
        ConfigError: it is empty, or a URL of something else.
    """
    if not where.strip():
        raise ConfigError("The name of the cache is empty. Give an SQLite file, a LevelDB directory or a redis:// URL.")
    scheme = _SCHEME.match(where)
    if scheme is not None:
        rest = where[scheme.end() :]
        for kind in KINDS:
            if scheme[1].lower() in kind.schemes and (rest.startswith("//") or not kind.is_server):
                return Place(kind, where if kind.is_server else _path(rest, kind))
        if rest.startswith("//"):
            # The rest may hold a password, so it is not repeated.
            raise ConfigError(f"A cache at {scheme[1]}:// is not known; a path or a redis:// URL is needed.")
    path = Path(where).expanduser()
    for kind in KINDS:
        if kind.is_at is not None and kind.is_at(path):
            return Place(kind, where)
    return None if path.is_dir() else Place(KINDS[0], where)


def _path(rest: str, kind: Kind) -> str:
    """The path behind a scheme: ``path`` or ``///path``."""
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = "" if host else slash + path
    if not rest:
        raise ConfigError(f"{kind.capitalized} is named by its path: {kind.schemes[0]}:PATH.")
    return rest


def open_store(where: str, *, read_only: bool = False, base: str | None = None) -> Store:
    """The store that a name means. One that is missing is made, unless it is only read.

    Args:
        where: as in ``find``.
        read_only: whether it is never written. A server is the same either way.
        base: another store, which is only read: what it holds is served too.

    Raises:
        CacheError: a store cannot be opened.
        ConfigError: a name has no meaning, or such a store cannot lie over a base.
        ImportError: the package for it is missing.
    """
    place = find(where)
    if base is None:
        return place.open(read_only=read_only)
    below = find(base)
    for one in (place, below):
        if "base" not in one.kind.options:
            raise ConfigError(f"{one.kind.capitalized} cannot be used with a base: that is for SQLite files.")
    from lm_deluge.cache.stores.overlay import OverlayStore

    # The base first: if it is not there, no file of our own is left behind.
    lower: Any = below.open(read_only=True)
    upper: Any = place.open(read_only=read_only)
    return OverlayStore(upper, lower)
