"""Entries that are added to a store: new ones are stored, equal ones skipped, the others are conflicts."""

from collections import Counter
from collections.abc import Iterator
from itertools import compress
from typing import Any, Literal, get_args

import msgspec

from lm_deluge._printable import shown
from lm_deluge.cache.admin.puts import put_unchanged
from lm_deluge.cache.admin.reports import Cut, Left, shortened
from lm_deluge.cache.codec import try_decode
from lm_deluge.cache.entry import Entry, short_hex
from lm_deluge.cache.stores import Store
from lm_deluge.errors import ConfigError
from lm_deluge.response import APIResponse
from lm_deluge.text import counted, moment

__all__ = ["Conflict", "Incoming", "OnConflict", "told", "told_conflicts"]

OnConflict = Literal["keep", "replace", "fail"]

_BATCH = 256
_BATCH_BYTES = 8 * 1024 * 1024

_pack = msgspec.msgpack.Encoder()


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """Two answers under one key.

    Attributes:
        key: in hexadecimal.
        stored_model: the model that gave the answer that was there.
        stored_at: when, in seconds since the Unix epoch; 0 where that is not known.
        incoming_model: the model that gave the other one.
        incoming_at: when.
    """

    key: str
    stored_model: str
    stored_at: float
    incoming_model: str
    incoming_at: float

    def __str__(self) -> str:
        return (
            f"{shown(short_hex(self.key))}: stored is {shown(self.stored_model)} of {moment(self.stored_at)}, "
            f"incoming {shown(self.incoming_model)} of {moment(self.incoming_at)}"
        )


class Incoming:
    """Puts entries into a store, many at a time.

    Args:
        store: where they go.
        on_conflict: what to do about another answer under the same key: ``"keep"`` what is there, ``"replace"`` it, or
            ``"fail"``, which stops before it.
        dry_run: only count.

    Raises:
        ConfigError: ``on_conflict`` has another value.
    """

    def __init__(self, store: Store, *, on_conflict: OnConflict, dry_run: bool) -> None:
        if on_conflict not in get_args(OnConflict):
            raise ConfigError(f"on_conflict={on_conflict!r} is not one of {', '.join(get_args(OnConflict))}.")
        self._store = store
        self._on_conflict = on_conflict
        self._dry_run = dry_run
        self._waiting: dict[bytes, tuple[Entry, APIResponse]] = {}
        self._bytes = 0
        self._counts = Counter[str]()
        self._first_conflicts: list[Conflict] = []

    def add(self, entry: Entry, response: APIResponse) -> None:
        """Take an entry, whose value is this response; it is stored by the time ``flush`` returns.

        Raises:
            Cut: of ``"fail"``: there is another answer. What came before it has been stored.
            CacheError: the store cannot be asked or written.
        """
        if entry.key in self._waiting:
            self.flush()
        self._waiting[entry.key] = (entry, response)
        self._bytes += entry.size
        if len(self._waiting) >= _BATCH or self._bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Store what waits.

        Raises:
            Cut: as in ``add``.
            CacheError: the store cannot be asked or written.
        """
        waiting, self._waiting, self._bytes = self._waiting, {}, 0
        cut: Cut | None = None
        while waiting:  # again those under whose keys another program has stored something meanwhile
            wanted: list[_Wanted] = []
            there = self._store.get_many(list(waiting))
            try:
                for (entry, response), value in zip(waiting.values(), there, strict=True):
                    if (one := self._wanted(entry, response, value)) is not None:
                        wanted.append(one)
            except Cut as error:
                cut = error
            entries = [one.entry for one in wanted]
            stored = [True] * len(wanted)
            if wanted and not self._dry_run:
                stored = put_unchanged(self._store, entries, [one.found for one in wanted])
            for one in compress(wanted, stored):
                self._note(one)
            waiting = {
                one.key: waiting[one.key] for one, is_stored in zip(entries, stored, strict=True) if not is_stored
            }
        if cut is not None:
            raise cut

    def counts(self) -> dict[str, Any]:
        """What came of them, for a report: ``added``, ``identical``, ``conflicts``, ``replaced``, ``dry_run`` and
        ``first_conflicts``."""
        return {**self._counts, "dry_run": self._dry_run, "first_conflicts": tuple(self._first_conflicts)}

    def _wanted(self, entry: Entry, response: APIResponse, value: bytes | None) -> "_Wanted | None":
        """The entry if it is to be stored; else it is counted."""
        key = entry.key
        stored = try_decode(key, value)
        if isinstance(stored, str):
            # A lookup would be a miss, so the new entry takes its place. The damaged bytes are kept.
            is_gone = not self._dry_run and self._store.quarantine(key, value, stored)
            return _Wanted(entry, None if is_gone else value)
        if stored is None:
            return _Wanted(entry, value)
        if _pack.encode(stored.response) == _pack.encode(response):
            self._counts["identical"] += 1
            return None
        conflict = Conflict(
            key=key.hex(),
            stored_model=stored.response.model,
            stored_at=stored.created,
            incoming_model=response.model,
            incoming_at=entry.facts.created,
        )
        if self._on_conflict == "fail":
            raise Cut(f"another answer is stored under the same key: {conflict}")
        wanted = _Wanted(entry, value, conflict)
        if self._on_conflict == "replace":
            return wanted
        self._note(wanted)
        return None

    def _note(self, one: "_Wanted") -> None:
        if one.conflict is None:
            self._counts["added"] += 1
            return
        self._counts["conflicts"] += 1
        self._counts["replaced"] += self._on_conflict == "replace"
        if len(self._first_conflicts) < Left.MOST:
            self._first_conflicts.append(one.conflict)


class _Wanted(msgspec.Struct, frozen=True):
    """An entry, what was found under its key, and the conflict if that is another answer."""

    entry: Entry
    found: bytes | None
    conflict: Conflict | None = None


def told(report: Any) -> str:
    """What a report says of entries that are stored now."""
    said = "was there already" if report.identical == 1 else "were there already"
    would = "would be " if report.dry_run else ""
    return f"{counted(report.added, 'entry', 'entries')} {would}added, {report.identical:,} {said}"


def told_conflicts(report: Any) -> Iterator[str]:
    """What a report says of entries that are stored with another answer than the one that came."""
    if not report.conflicts:
        return
    kept = "what was there is kept"
    if report.replaced:
        kept = "would be replaced" if report.dry_run else "replaced"
    verb = "is" if report.conflicts == 1 else "are"
    yield f"{report.conflicts:,} {verb} there with another answer; {kept}"
    yield from shortened(report.first_conflicts, report.conflicts)
