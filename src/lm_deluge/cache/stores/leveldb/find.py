"""All entries of a conversation: those whose keys begin with its own, which are neighbours in a LevelDB."""

from collections.abc import Callable, Sequence
from typing import Any

from lm_deluge.cache.stores._candidates import in_order
from lm_deluge.cache.stores.leveldb.values import ENTRY, FACTS, about_of

__all__ = ["find"]

Read = Callable[[Any, bytes], bytes | None]


def find(
    db: Any, conversation: bytes, own: Sequence[bytes], *, value: Read, part: Read, damage: type[Exception]
) -> list[tuple[bytes, bytes]]:
    """Keys and values of a conversation's entries, as ``ConversationStore.find_many`` gives them.

    Args:
        db: the database.
        conversation: its key.
        own: the keys that are preferred.
        value: reads the value of a key; empty if it is there and cannot be read.
        part: reads what is kept beside a value.
        damage: what the database raises where it cannot be read.
    """
    values: dict[bytes, bytes] = {}
    try:
        with db.iterator(prefix=ENTRY + conversation) as pairs:
            values.update((key[len(ENTRY) :], found) for key, found in pairs)
    except damage:
        # Those that are asked for by name may be in other blocks.
        by_name = {key: value(db, key) for key in (*own, conversation)}
        values.update((key, found) for key, found in by_name.items() if found is not None)
    if len(values) < 2:
        return list(values.items())
    created = {key: about_of(part(db, FACTS + key)).facts.created for key in values}
    return [(key, values[key]) for key in in_order(own, created)]
