"""New keys for old entries: after a change of the key scheme, or in another namespace, no answer is paid for twice."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from lm_deluge._printable import shown
from lm_deluge.cache._batched import batched
from lm_deluge.cache.admin.archive._recent import remembering
from lm_deluge.cache.admin.filters import Filter, entries, scannable
from lm_deluge.cache.admin.reports import Left, LeftOut, check_namespace, shortened
from lm_deluge.cache.assembly import entry_of
from lm_deluge.cache.codec import Decoded, decode, try_decode
from lm_deluge.cache.entry import Entry, Stored
from lm_deluge.cache.record import StoredRequest, unpack_request
from lm_deluge.cache.stores import ConversationStore, Store
from lm_deluge.errors import DamagedEntryError
from lm_deluge.text import counted, moment

__all__ = ["RekeyReport", "rekey"]

_BATCH = 256


class RekeyReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of a pass.

    Attributes:
        right: their key was right already.
        moved: they have a new key.
        conflicts: of those two, entries with another answer under the same new key; the newer one is served, and the
            older one was quarantined.
        without_request: left as they are, because no request was stored.
        redacted: left as they are, because their request was changed.
        damaged: left as they are, because they or their requests do not decode.
        dry_run: whether nothing was changed.
        left: the first entries that were left for damage, and why.
    """

    right: int = 0
    moved: int = 0
    conflicts: int = 0
    without_request: int = 0
    redacted: int = 0
    damaged: int = 0
    dry_run: bool = False
    left: tuple[Left, ...] = ()

    def __str__(self) -> str:
        verb = "would get" if self.dry_run else "has" if self.moved == 1 else "have"
        said = [
            f"{counted(self.moved, 'entry', 'entries')} {verb} a new key, "
            f"{self.right:,} {'was' if self.right == 1 else 'were'} right"
        ]
        others = (
            (self.conflicts, "conflicts: of two answers the newer is served, and the older quarantined"),
            (self.without_request, "left as they are: no request was stored"),
            (self.redacted, "left as they are: their request was redacted"),
            (self.damaged, "left as they are: damaged"),
        )
        said += [f"{count:,} {what}" for count, what in others if count]
        return shown("\n".join([*said, *shortened(self.left, self.damaged)]), lines=True)


def rekey(
    store: Store, *, dry_run: bool = False, namespace_from: str | None = None, namespace_to: str | None = None
) -> RekeyReport:
    """Give every entry the key that its stored request has today.

    Entries of older versions get one that holds the parameters too. Where an answer was stored both for the
    conversation and for the same request, the newer of the two is served, and the older one is quarantined.

    An entry is stored under its new key before the old one is removed, so whenever this is interrupted each answer is
    under at least one of them, and doing it again finishes the work.

    Args:
        store: any store that can be scanned.
        dry_run: only say what would happen.
        namespace_from: only the entries of this ``cache_key``.
        namespace_to: the ``cache_key`` to give them; their own if not given.

    Raises:
        CacheError: the store cannot be scanned or written.
        ConfigError: ``namespace_to`` is empty.
    """
    check_namespace(namespace_to, "namespace_to")
    return _Rekey(store, namespace_to, dry_run=dry_run).run(Filter(namespace=namespace_from))


class _Move(msgspec.Struct, frozen=True):
    """An entry under the key that it has, and the one that it should have."""

    stored: Stored
    found: Decoded
    entry: Entry


class _Held(msgspec.Struct, frozen=True):
    """What is stored under a key."""

    key: bytes
    value: bytes
    found: Decoded


class _Rekey:
    """One pass over a store."""

    def __init__(self, store: Store, namespace_to: str | None, *, dry_run: bool) -> None:
        self._store = store
        self._scan = scannable(store)
        self._finds = isinstance(store, ConversationStore)
        self._read_blobs = remembering(self._scan.read_blobs)
        self._namespace_to = namespace_to
        self._dry_run = dry_run
        self._counts = Counter[str]()
        self._left = LeftOut()

    def run(self, filter: Filter) -> RekeyReport:
        # Keys first, 48 bytes each: a scan of entries that are being written could find the new ones.
        misplaced = [stored.key for stored in entries(self._store, filter) if self._is_misplaced(stored)]
        for keys in batched(misplaced, _BATCH):
            moves = [self._moving(stored) for stored in self._scan.read(keys) if stored is not None]
            self._move([move for move in moves if move is not None])
        return RekeyReport(dry_run=self._dry_run, left=tuple(self._left), **self._counts)

    def _is_misplaced(self, stored: Stored) -> bool:
        if not stored.request:
            self._counts["without_request"] += 1
            return False
        try:
            request = unpack_request(stored.request, self._read_blobs)
            if request.redacted:
                self._counts["redacted"] += 1
                return False
            if self._key_of(request, stored) == stored.key:
                self._counts["right"] += 1
                return False
            decode(stored.key, stored.value)
        except DamagedEntryError as error:
            self._note_damage(stored, error)
            return False
        return True

    def _namespace(self, stored: Stored) -> str:
        return self._namespace_to or stored.namespace

    def _key_of(self, request: StoredRequest, stored: Stored) -> bytes:
        return request.key(self._namespace(stored), stored.key, finds=self._finds)

    def _moving(self, stored: Stored) -> _Move | None:
        try:
            found = decode(stored.key, stored.value)
            request = unpack_request(stored.request, self._read_blobs)
            return _Move(stored, found, self._entry(stored, found, request))
        except DamagedEntryError as error:  # since it was looked at
            self._note_damage(stored, error)
            return None

    def _note_damage(self, stored: Stored, error: DamagedEntryError) -> None:
        self._counts["damaged"] += 1
        self._left.note(stored.key.hex(), error)

    def _entry(self, stored: Stored, found: Decoded, request: StoredRequest) -> Entry:
        if self._finds:
            request = msgspec.structs.replace(request, scope="conversation")  # the key tells the parameters
        fingerprint = found.fingerprint if request.parameters is None else request.parameters.fingerprint
        created, namespace = found.created or stored.facts.created, self._namespace(stored)
        return entry_of(
            self._key_of(request, stored),
            found.response,
            request.pack(),
            namespace=namespace,
            created=created,
            fingerprint=fingerprint,
            facts=msgspec.structs.replace(stored.facts, created=created),
            expires=stored.expires,
        )

    def _move(self, moves: Sequence[_Move]) -> None:
        held = self._held([move.entry.key for move in moves])
        new: dict[bytes, Entry] = {}
        old: set[bytes] = set()
        losers: list[tuple[_Held, str]] = []
        for move in moves:
            key, mine = move.entry.key, _Held(move.stored.key, move.stored.value, move.found)
            self._counts["moved"] += 1
            rival = held.get(key)
            if rival is not None and rival.found.response != move.found.response:
                self._counts["conflicts"] += 1
                if rival.found.created >= move.entry.facts.created:
                    losers.append((mine, _reason(key, rival)))
                    continue
                losers.append((rival, _reason(key, mine)))
                old.discard(rival.key)
                rival = None
            if rival is None:
                held[key] = mine
                new[key] = move.entry
            old.add(mine.key)
        if self._dry_run:
            return
        for loser, reason in losers:
            self._store.quarantine(loser.key, loser.value, reason)
        self._store.put_many(list(new.values()))
        self._scan.delete_many(list(old))

    def _held(self, keys: Sequence[bytes]) -> dict[bytes, _Held]:
        """What is under the new keys already."""
        held: dict[bytes, _Held] = {}
        for key, value in zip(keys, self._store.get_many(keys), strict=True):
            found = try_decode(key, value)
            if value is not None and isinstance(found, Decoded):
                held[key] = _Held(key, value, found)
            elif isinstance(found, str) and not self._dry_run:
                self._store.quarantine(key, value, found)
        return held


def _reason(key: bytes, winner: _Held) -> str:
    served = winner.found
    return f"{key.hex()[:16]}… has a newer answer, of {served.response.model}, {moment(served.created)}"
