"""Entries in a LevelDB directory, for one process at a time."""

from lm_deluge.cache.stores.leveldb.store import LevelDBStore

__all__ = ["LevelDBStore"]
