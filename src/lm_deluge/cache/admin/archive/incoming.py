"""Entries that are added to a store: new ones are stored, equal ones skipped, the others are conflicts."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal, get_args

import msgspec

from lm_deluge._printable import shown
from lm_deluge.cache.admin.reports import Cut, Left, shortened
from lm_deluge.cache.codec import Decoded, try_decode
from lm_deluge.cache.entry import Entry
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
            f"{shown(self.key[:16])}…: stored is {shown(self.stored_model)} of {moment(self.stored_at)}, "
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
        if not waiting:
            return
        wanted: list[Entry] = []
        try:
            there = self._store.get_many(list(waiting))
            for (key, (entry, response)), value in zip(waiting.items(), there, strict=True):
                if self._is_wanted(key, entry, response, value):
                    wanted.append(entry)
        finally:
            if wanted and not self._dry_run:
                self._store.put_many(wanted)

    def counts(self) -> dict[str, Any]:
        """What came of them, for a report: ``added``, ``identical``, ``conflicts``, ``replaced``, ``dry_run`` and
        ``first_conflicts``."""
        return {**self._counts, "dry_run": self._dry_run, "first_conflicts": tuple(self._first_conflicts)}

    def _is_wanted(self, key: bytes, entry: Entry, response: APIResponse, value: object) -> bool:
        stored = self._decoded(key, value)
        if stored is None:
            self._counts["added"] += 1
            return True
        if _pack.encode(stored.response) == _pack.encode(response):
            self._counts["identical"] += 1
            return False
        conflict = Conflict(
            key=key.hex(),
            stored_model=stored.response.model,
            stored_at=stored.created,
            incoming_model=response.model,
            incoming_at=entry.facts.created,
        )
        if self._on_conflict == "fail":
            raise Cut(f"another answer is stored under the same key: {conflict}")
        self._counts["conflicts"] += 1
        if len(self._first_conflicts) < Left.MOST:
            self._first_conflicts.append(conflict)
        self._counts["replaced"] += self._on_conflict == "replace"
        return self._on_conflict == "replace"

    def _decoded(self, key: bytes, value: object) -> Decoded | None:
        found = try_decode(key, value)
        if not isinstance(found, str):
            return found
        # A lookup would be a miss, so the new entry takes its place. The damaged bytes are kept.
        if not self._dry_run:
            self._store.quarantine(key, value, found)
        return None


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
