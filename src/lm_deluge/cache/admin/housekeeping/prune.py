"""Removing entries that are old or not used. The price of getting them back is told beforehand."""

import time
from collections.abc import Iterable, Iterator
from operator import attrgetter

import msgspec

from lm_deluge.cache._batched import batched
from lm_deluge.cache.admin.filters import Filter, entries, scannable
from lm_deluge.cache.entry import Stored
from lm_deluge.cache.stores import BoundedStore, ScanStore, Store
from lm_deluge.errors import ConfigError

__all__ = ["PruneReport", "prune"]

_BATCH = 256
_ROOM = 0.01  # more to remove where the estimate was too low, so that few rounds are enough


class _Candidate(msgspec.Struct, frozen=True, gc=False):
    """What is kept in memory of an entry that may be removed. There may be millions."""

    key: bytes
    size: int
    cost: float | None
    used: float


class PruneReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed, or would be.

    Attributes:
        entries: how many.
        bytes: of their values and requests.
        cost: US dollars that were paid for them, which is about what it would cost to get them again.
        unpriced: how many of them have no known cost; they count 0.
        kept: entries that are left.
        dry_run: whether nothing was removed.
    """

    entries: int = 0
    bytes: int = 0
    cost: float = 0.0
    unpriced: int = 0
    kept: int = 0
    dry_run: bool = False

    def __add__(self, other: "PruneReport") -> "PruneReport":
        """This and what was removed after it."""
        return PruneReport(
            entries=self.entries + other.entries,
            bytes=self.bytes + other.bytes,
            cost=self.cost + other.cost,
            unpriced=self.unpriced + other.unpriced,
            kept=self.kept - other.entries,
            dry_run=self.dry_run,
        )


def prune(
    store: Store,
    *,
    older_than: float | None = None,
    unused_for: float | None = None,
    namespace: str | None = None,
    model: str | None = None,
    keep_bytes: int | None = None,
    expired: bool = False,
    dry_run: bool = False,
    now: float | None = None,
) -> PruneReport:
    """Remove entries that meet all conditions.

    With ``keep_bytes``, only as many of them as it takes to bring the store down to that size, those that were used
    longest ago first. How many these are is estimated from the share that an entry has in all of them; where that
    proves too few, more go, so a dry run may name a few less. What the store keeps free for new entries is not
    counted, nor SQLite's write-ahead log.

    Args:
        store: the store.
        older_than: seconds since the entry was stored.
        unused_for: seconds since it was last served, or stored if it never was. Uses within a day of another may not
            have been noted.
        namespace: its ``cache_key``.
        model: the model that was asked or that answered; ``*`` and ``?`` stand for other characters.
        keep_bytes: what the store may take.
        expired: only entries whose ``ttl`` has passed.
        dry_run: remove nothing, and report what would be.
        now: seconds since the Unix epoch; the machine's time by default.

    Raises:
        ConfigError: there is no condition at all, so everything would go; or ``unused_for`` for a store that does not
            keep when its entries were served.
        CacheError: the store cannot be read or written, or cannot say what it holds.
    """
    now = time.time() if now is None else now
    if not expired and all(each is None for each in (older_than, unused_for, namespace, model, keep_bytes)):
        raise ConfigError("Nothing says which entries may go, so all of them would. Give at least one condition.")
    whole = scannable(store)
    if unused_for is not None and not isinstance(store, BoundedStore):
        raise ConfigError(
            f"{store.location} does not keep when its entries were last used, so unused_for cannot tell which may go. "
            "Use older_than: the time since they were stored."
        )
    chosen = Filter(namespace=namespace, model=model, older_than=_before(now, older_than))
    removed = PruneReport(kept=whole.usage()["entries"], dry_run=dry_run)
    room = 0.0
    while True:
        size = whole.usage()["bytes"]
        may_go = _candidates(
            entries(store, chosen), expired_by=now if expired else None, unused_since=_before(now, unused_for)
        )
        if keep_bytes is not None:
            excess = size - keep_bytes + room if size > keep_bytes else 0.0
            may_go = _longest_unused(may_go, excess, size / max(sum(stored.size for stored in whole.scan()), 1))
        done = _remove(whole, may_go, dry_run=dry_run)
        removed += done
        # Only stores with size limits shrink at once. Others, such as LevelDB, must not lose more entries for it.
        if dry_run or not done.entries or keep_bytes is None or not isinstance(store, BoundedStore):
            return removed
        room = _ROOM * keep_bytes


def _before(now: float, seconds: float | None) -> float | None:
    return None if seconds is None else now - seconds


def _candidates(
    found: Iterable[Stored], *, expired_by: float | None, unused_since: float | None
) -> Iterator[_Candidate]:
    for stored in found:
        if expired_by is not None and (stored.expires is None or stored.expires > expired_by):
            continue
        used = max(stored.used or 0.0, stored.facts.created)
        if unused_since is None or used < unused_since:
            yield _Candidate(stored.key, stored.size, stored.facts.cost, used)


def _longest_unused(may_go: Iterable[_Candidate], excess: float, disk_share: float) -> Iterator[_Candidate]:
    """The least recently used candidates, until they take ``excess`` bytes on disk."""
    for candidate in sorted(may_go, key=attrgetter("used")):
        if excess <= 0:
            return
        excess -= candidate.size * disk_share
        yield candidate


def _remove(store: ScanStore, found: Iterable[_Candidate], *, dry_run: bool) -> PruneReport:
    entries = size = unpriced = 0
    cost = 0.0
    for batch in batched(found, _BATCH):
        if not dry_run:
            store.delete_many([candidate.key for candidate in batch])
        entries += len(batch)
        size += sum(candidate.size for candidate in batch)
        cost += sum(candidate.cost or 0.0 for candidate in batch)
        unpriced += sum(candidate.cost is None for candidate in batch)
    return PruneReport(entries=entries, bytes=size, cost=cost, unpriced=unpriced, dry_run=dry_run)
