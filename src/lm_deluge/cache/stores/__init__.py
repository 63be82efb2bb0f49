"""Where entries are kept: one file for each backend, behind a protocol that knows bytes and nothing else."""

from lm_deluge.cache.stores._protocol import (
    AwaitableStore,
    BoundedStore,
    JournalStore,
    LeaseStore,
    ScanStore,
    Store,
)

__all__ = ["AwaitableStore", "BoundedStore", "JournalStore", "LeaseStore", "ScanStore", "Store"]
