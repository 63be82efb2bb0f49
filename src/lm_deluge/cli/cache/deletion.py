"""What ``deluge cache delete`` does: it finds what is meant, asks, and deletes."""

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from lm_deluge.cache.admin.filters import Filter, entries, scannable
from lm_deluge.cache.admin.housekeeping import find
from lm_deluge.cli.cache.quarantine import choose, find_quarantined
from lm_deluge.cli.stores import open_store
from lm_deluge.cli.terminal import ask
from lm_deluge.text import counted

if TYPE_CHECKING:
    from lm_deluge.cache.stores import Store

__all__ = ["delete_entries"]

_BATCH = 256


def delete_entries(where: str, prefixes: Sequence[str], filter: Filter, *, quarantined: bool, yes: bool) -> int | None:
    """Delete entries, or quarantined ones; how many there were, and None where nothing is meant.

    Entries are named by the beginnings of their keys; those that the filter chooses are deleted with consent only.
    """
    with closing(open_store(where)) as opened:
        keys = _keys(opened, prefixes, filter, quarantined=quarantined)
    if not keys:
        return None
    if not prefixes:
        words = ("quarantined entry", "quarantined entries") if quarantined else ("entry", "entries")
        ask(f"{counted(len(keys), *words)} would be deleted.", yes=yes)
    with closing(open_store(where, writing=True)) as opened:
        store = scannable(opened)
        delete = store.delete_quarantined if quarantined else store.delete_many
        return sum(delete(keys[at : at + _BATCH]) for at in range(0, len(keys), _BATCH))


def _keys(store: "Store", prefixes: Sequence[str], filter: Filter, *, quarantined: bool) -> list[bytes]:
    if quarantined:
        found = [find_quarantined(store, prefix).entry.key for prefix in prefixes]
        found = found or [one.entry.key for one in choose(store, filter)]
    else:
        found = [find(store, prefix).key for prefix in prefixes]
        found = found or [stored.key for stored in entries(store, filter)]
    return list(dict.fromkeys(found))
