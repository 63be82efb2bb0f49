"""Storing entries while other programs store as well."""

from collections.abc import Sequence

from lm_deluge.cache.entry import Entry
from lm_deluge.cache.stores import ConditionalStore, Store

__all__ = ["put_unchanged"]


def put_unchanged(store: Store, entries: Sequence[Entry], found: Sequence[bytes | None]) -> list[bool]:
    """``ConditionalStore.put_if_unchanged``. A store without it stores all entries."""
    if not entries:
        return []
    if isinstance(store, ConditionalStore):
        return store.put_if_unchanged(entries, found)
    store.put_many(entries)
    return [True] * len(entries)
