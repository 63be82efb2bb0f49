"""Where entries are kept: a module or a package for each backend, behind protocols that know bytes alone."""

from lm_deluge.cache.stores._protocol import (
    AwaitableStore,
    BoundedStore,
    ConversationStore,
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
    "ConversationStore",
    "JournalStore",
    "LeaseStore",
    "RebuildReport",
    "RebuildableStore",
    "ScanStore",
    "Store",
]
