"""New keys for old entries: after a change of the key scheme, or in another namespace, no answer is paid for twice."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import compress

import msgspec

from lm_deluge._printable import shown
from lm_deluge.cache._batched import batched
from lm_deluge.cache.admin.archive._recent import remembering
from lm_deluge.cache.admin.filters import Filter, entries, scannable
from lm_deluge.cache.admin.puts import put_unchanged
from lm_deluge.cache.admin.reports import Left, LeftOut, check_namespace, shortened
from lm_deluge.cache.assembly import entry_of
from lm_deluge.cache.codec import Decoded, decode, try_decode
from lm_deluge.cache.entry import Entry, Stored, short_id
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
        planned: dict[bytes, _Held] = {}  # what a dry run would have stored
        # The newest first: the others lose to it, and are quarantined as they are.
        moves = sorted(moves, key=lambda move: move.entry.facts.created, reverse=True)
        while moves:
            # One for each new key. The next one then finds what was stored there, by this one or by another program.
            first = {move.entry.key: move for move in reversed(moves)}
            stored = self._move_different(first, planned)
            moves = [move for move in moves if first[move.entry.key] is not move or move.entry.key not in stored]

    def _move_different(self, moves: Mapping[bytes, _Move], planned: dict[bytes, _Held]) -> set[bytes]:
        """Move entries to different keys; those that need not be tried again."""
        there, held = self._held(list(moves))
        held |= planned
        new: dict[bytes, Entry] = {}
        old: dict[bytes, bytes] = {}
        done: set[bytes] = set()
        for key, move in moves.items():
            mine, rival = _Held(move.stored.key, move.stored.value, move.found), held.get(key)
            if rival is not None and rival.found.response != move.found.response:
                if rival.found.created >= move.entry.facts.created:
                    self._quarantine(mine, _reason(key, rival))
                    done.add(key)
                    continue
                if self._quarantine(rival, _reason(key, mine)):
                    there[key] = None
                rival = None
            old[key] = mine.key
            if rival is not None:
                done.add(key)
            elif self._dry_run:
                planned[key] = mine
                done.add(key)
            else:
                new[key] = move.entry
        stored = put_unchanged(self._store, list(new.values()), [there[key] for key in new])
        done.update(compress(new, stored))
        self._counts["moved"] += len(done)
        if not self._dry_run:
            self._scan.delete_many([old[key] for key in done if key in old])
        return done

    def _quarantine(self, loser: _Held, reason: str) -> bool:
        """Quarantine the older one of two answers; whether it was still there."""
        is_done = self._dry_run or self._store.quarantine(loser.key, loser.value, reason)
        self._counts["conflicts"] += is_done
        return is_done

    def _held(self, keys: Sequence[bytes]) -> tuple[dict[bytes, bytes | None], dict[bytes, _Held]]:
        """What is under the new keys already: as it was found, and what can be decoded."""
        there = dict(zip(keys, self._store.get_many(keys), strict=True))
        held: dict[bytes, _Held] = {}
        for key, value in there.items():
            found = try_decode(key, value)
            if value is not None and isinstance(found, Decoded):
                held[key] = _Held(key, value, found)
            elif isinstance(found, str) and not self._dry_run and self._store.quarantine(key, value, found):
                there[key] = None
        return there, held


def _reason(key: bytes, winner: _Held) -> str:
    served = winner.found
    return f"{short_id(key)} has a newer answer, of {served.response.model}, {moment(served.created)}"
