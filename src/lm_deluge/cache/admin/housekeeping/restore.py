"""Putting a quarantined answer back into service."""

from collections.abc import Iterator

import msgspec

from lm_deluge.cache.admin.filters import scannable
from lm_deluge.cache.admin.puts import put_unchanged
from lm_deluge.cache.codec import Decoded, decode
from lm_deluge.cache.entry import Entry, Quarantined
from lm_deluge.cache.facts import facts_of
from lm_deluge.cache.record import unpack_request
from lm_deluge.cache.stores import ScanStore, Store
from lm_deluge.errors import DamagedEntryError

__all__ = ["restore"]

_DEFAULT = "default"


def restore(store: Store, key: bytes) -> bool:
    """Serve a quarantined answer again: of those under a key, the newest that can still be read.

    It counts as stored when it was stored first, belongs to no run and never expires. Where it was the only one that
    was quarantined under the key it is not kept there any more; otherwise all of them are, so that nothing is lost.

    Args:
        store: the store.
        key: of the entry.

    Returns:
        Whether it is served now. False if there is an entry in service under the key, or none to restore.

    Raises:
        CacheError: the store cannot be read or written, or cannot say what it holds.
    """
    whole = scannable(store)
    if store.get_many([key]) != [None]:
        return False
    kept = [quarantined for quarantined in whole.quarantined() if quarantined.key == key]
    for quarantined in reversed(kept):
        try:
            found = decode(key, quarantined.value)
        except DamagedEntryError:
            continue
        if put_unchanged(store, [_entry(whole, quarantined, found)], [None]) != [True]:
            return False
        if len(kept) == 1:
            whole.delete_quarantined([key])
        return True
    return False


def _entry(store: ScanStore, quarantined: Quarantined, found: Decoded) -> Entry:
    bare = Entry(key=quarantined.key, value=quarantined.value, facts=facts_of(found.response, created=found.created))
    if not quarantined.request:
        return bare
    try:
        request = unpack_request(quarantined.request, store.read_blobs)
        # The namespace is not kept by itself, but the key is made from it.
        namespace = next((name for name in _namespaces(store) if request.has_key(quarantined.key, name)), _DEFAULT)
    except DamagedEntryError:
        return bare
    packed = request.pack()
    return msgspec.structs.replace(
        bare, namespace=namespace, request=packed.data, refers=packed.refers, blobs=packed.blobs
    )


def _namespaces(store: ScanStore) -> Iterator[str]:
    """The namespaces of the store, the default one first."""
    seen = {_DEFAULT}
    yield _DEFAULT
    for stored in store.scan():
        if stored.namespace not in seen:
            seen.add(stored.namespace)
            yield stored.namespace
