"""Reading entries of a LevelDB of which some blocks may be damaged."""

from collections.abc import Sequence
from typing import Any

from lm_deluge.cache.entry import Stored
from lm_deluge.cache.stores._candidates import in_order
from lm_deluge.cache.stores.leveldb.values import ENTRY, FACTS, REQUEST, about_of

__all__ = ["Reader"]


class Reader:
    """Entries of a database.

    Args:
        db: the database.
        damage: what it raises where it cannot be read.
    """

    def __init__(self, db: Any, damage: type[Exception]) -> None:
        self._db = db
        self._damage = damage

    def value(self, key: bytes) -> bytes | None:
        """The value of an entry; empty if it is there and cannot be read."""
        return self.part(ENTRY + key, unreadable=b"")

    def part(self, name: bytes, *, unreadable: bytes | None = None) -> bytes | None:
        """What is kept beside a value; None if it cannot be read, because the value is given all the same."""
        try:
            found: bytes | None = self._db.get(name)
        except self._damage:
            return unreadable
        return found

    def stored(self, key: bytes) -> Stored | None:
        """A whole entry."""
        value = self.value(key)
        if value is None:
            return None
        about = about_of(self.part(FACTS + key))
        return Stored(
            key=key,
            namespace=about.namespace,
            value=value,
            request=self.part(REQUEST + key) or b"",
            facts=about.facts,
            expires=about.expires,
        )

    def find(self, conversation: bytes, own: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """As ``ConversationStore.find_many``. Keys that begin with the conversation's are neighbours."""
        values: dict[bytes, bytes] = {}
        try:
            with self._db.iterator(prefix=ENTRY + conversation) as pairs:
                values.update((key[len(ENTRY) :], found) for key, found in pairs)
        except self._damage:
            # Those that are asked for by name may be in other blocks.
            by_name = {key: self.value(key) for key in (*own, conversation)}
            values.update((key, found) for key, found in by_name.items() if found is not None)
        if len(values) < 2:
            return list(values.items())
        created = {key: about_of(self.part(FACTS + key)).facts.created for key in values}
        return [(key, values[key]) for key in in_order(own, created)]
