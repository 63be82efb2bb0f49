"""Quarantined entries, looked at as if they were in service: by key, model, age and namespace."""

from collections.abc import Iterable, Iterator

import msgspec

from lm_deluge.cache.admin.filters import Filter, scannable
from lm_deluge.cache.admin.housekeeping import key_filter, only_one
from lm_deluge.cache.codec import decode
from lm_deluge.cache.entry import Facts, Quarantined, Stored
from lm_deluge.cache.facts import facts_of
from lm_deluge.cache.record import unpack_request
from lm_deluge.cache.stores import ScanStore, Store
from lm_deluge.errors import ConfigError, DamagedEntryError

__all__ = ["QuarantinedEntry", "choose", "find_quarantined", "namespaces_of"]


class QuarantinedEntry(msgspec.Struct, frozen=True):
    """A quarantined entry, and the same as an entry in service, as far as that can be told."""

    entry: Quarantined
    stored: Stored


def choose(store: Store, filter: Filter, *, namespaces: Iterable[str] = ()) -> Iterator[QuarantinedEntry]:
    """Those that a filter chooses, the oldest first. One of the namespaces may be the one it was stored under."""
    if filter.needs_runs:
        raise ConfigError("It is not known which run bought a quarantined entry: leave out --run and --tag.")
    whole = scannable(store)
    names = tuple(namespaces) if filter.namespace is None else (filter.namespace,)
    for entry in whole.quarantined():
        quarantined = QuarantinedEntry(entry, _as_stored(entry, whole, names))
        if filter.matches(quarantined.stored):
            yield quarantined


def find_quarantined(store: Store, prefix: str, *, namespaces: Iterable[str] = ()) -> QuarantinedEntry:
    """The latest quarantined entry whose key begins so."""
    wanted = key_filter(prefix)
    found = ((one.entry.key, one) for one in choose(store, wanted, namespaces=namespaces))
    return only_one(found, wanted.key, "quarantined entry")


def namespaces_of(store: Store) -> set[str]:
    """The namespaces of the entries in service."""
    return {"default", *(stored.namespace for stored in scannable(store).scan())}


def _as_stored(entry: Quarantined, store: ScanStore, namespaces: Iterable[str]) -> Stored:
    try:
        found = decode(entry.key, entry.value)
        facts = facts_of(found.response, created=found.created)
    except DamagedEntryError:
        facts = Facts()  # that may be why it was quarantined
    namespace = _namespace(entry, store, namespaces)
    return Stored(key=entry.key, namespace=namespace, value=entry.value, request=entry.request, facts=facts)


def _namespace(entry: Quarantined, store: ScanStore, namespaces: Iterable[str]) -> str:
    """The one that gives the request this key. It is not kept of such entries."""
    names = [name for name in namespaces if name]
    if not entry.request or not names:
        return ""
    try:
        request = unpack_request(entry.request, store.read_blobs)
    except DamagedEntryError:
        return ""
    return next((name for name in names if request.has_key(entry.key, name)), "")
