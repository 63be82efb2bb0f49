"""Where entries are kept: one file for each backend, behind a protocol that knows bytes and nothing else."""

from lm_deluge.cache.stores._protocol import (
    AwaitableStore,
    BoundedStore,
    JournalStore,
    LeaseStore,
    RebuildableStore,
    RebuildReport,
    ScanStore,
    Store,
)

__all__ = [
    "AwaitableStore",
    "BoundedStore",
    "JournalStore",
    "LeaseStore",
    "RebuildReport",
    "RebuildableStore",
    "ScanStore",
    "Store",
]
