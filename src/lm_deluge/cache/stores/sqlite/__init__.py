"""Entries in one SQLite file that many threads and processes of a machine may use at once."""

from lm_deluge.cache.stores.sqlite.store import SqliteStore, Synchronous

__all__ = ["SqliteStore", "Synchronous"]
