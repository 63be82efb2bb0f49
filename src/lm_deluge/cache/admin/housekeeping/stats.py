"""What a store holds and what it cost, and what its runs paid and avoided."""

from collections.abc import Iterable

import msgspec

from lm_deluge.cache.admin.filters import Filter, chosen_runs, entries, scannable
from lm_deluge.cache.entry import Stored
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores import JournalStore, Store
from lm_deluge.events import RunReport
from lm_deluge.usage import Usage

__all__ = ["Group", "Ledger", "Stats", "stats"]

_LATEST_RUNS = 5
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Entries that have something in common.

    Attributes:
        name: what they have in common; None where it is not known.
        entries: how many there are.
        bytes: of their values and requests. What several requests share is stored once, and is not in it.
        usage: tokens paid for, by kind.
        cost: US dollars paid for them.
        unpriced: entries whose cost is not known; they count 0.
        oldest: when the first of them was stored, in seconds since the Unix epoch; None where that is not known.
        newest: the same of the last.
    """

    name: str | None = None
    entries: int = 0
    bytes: int = 0
    usage: Usage = Usage()
    cost: float = 0.0
    unpriced: int = 0
    oldest: float | None = None
    newest: float | None = None


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What runs did, as far as the store keeps their accounts.

    Attributes:
        runs: how many there are.
        unfinished: how many of them have no account: they are in progress, or were killed.
        imported: how many came with imported entries; their accounts are where they were made.
        total: the sum of the others.
        latest: the last few, the newest first.
    """

    runs: int = 0
    unfinished: int = 0
    imported: int = 0
    total: RunReport = RunReport()
    latest: tuple[Run, ...] = ()


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What a store holds.

    Attributes:
        disk_bytes: what the whole store takes, also where the filter selects a part.
        on_disk: whether it takes that on a disk, and not in the memory of this process or of a server.
        blobs: pieces of requests that entries share, in the whole store.
        quarantined: entries that are kept but not served, in the whole store.
        all: all entries that were selected.
        namespaces: the same by namespace, the largest first.
        models: the same by the model that answered, the largest first.
        ledger: the accounts of runs; None where the store keeps none.
    """

    disk_bytes: int = 0
    on_disk: bool = True
    blobs: int = 0
    quarantined: int = 0
    all: Group = Group()
    namespaces: tuple[Group, ...] = ()
    models: tuple[Group, ...] = ()
    ledger: Ledger | None = None


def stats(store: Store, filter: Filter = Filter()) -> Stats:  # noqa: B008 - frozen
    """Add up the entries of a store, and the accounts of its runs. One pass over the entries.

    Args:
        store: the store.
        filter: which entries to count; all of them by default. Where it names a run or a tag, only those runs count.

    Raises:
        CacheError: the store cannot be read, or cannot say what it holds.
    """
    whole = _Sum(None)
    namespaces: dict[str | None, _Sum] = {}
    models: dict[str | None, _Sum] = {}
    for stored in entries(store, filter):
        name, model = stored.namespace, stored.facts.model
        for group in (
            whole,
            namespaces.get(name) or namespaces.setdefault(name, _Sum(name)),
            models.get(model) or models.setdefault(model, _Sum(model)),
        ):
            group.add(stored)
    usage = scannable(store).usage()
    return Stats(
        disk_bytes=usage["bytes"],
        on_disk=bool(usage.get("on_disk", 1)),
        blobs=usage["blobs"],
        quarantined=usage["quarantined"],
        all=whole.group(),
        namespaces=_largest_first(namespaces.values()),
        models=_largest_first(models.values()),
        ledger=_ledger(store, filter) if isinstance(store, JournalStore) else None,
    )


class _Sum:
    """A group that is still growing."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.entries = self.bytes = self.unpriced = 0
        self.tokens = dict.fromkeys(_TOKENS, 0)
        self.cost = 0.0
        self.oldest, self.newest = float("inf"), float("-inf")

    def add(self, stored: Stored) -> None:
        facts = stored.facts
        self.entries += 1
        self.bytes += stored.size
        for name in _TOKENS:
            self.tokens[name] += getattr(facts, name) or 0
        self.cost += facts.cost or 0.0
        self.unpriced += facts.cost is None
        if facts.created > 0:
            self.oldest = min(self.oldest, facts.created)
            self.newest = max(self.newest, facts.created)

    def group(self) -> Group:
        return Group(
            name=self.name,
            entries=self.entries,
            bytes=self.bytes,
            usage=Usage(**self.tokens),
            cost=self.cost,
            unpriced=self.unpriced,
            oldest=self.oldest if self.oldest <= self.newest else None,
            newest=self.newest if self.oldest <= self.newest else None,
        )


def _largest_first(sums: Iterable[_Sum]) -> tuple[Group, ...]:
    return tuple(sum.group() for sum in sorted(sums, key=lambda sum: (-sum.entries, sum.name or "")))


def _ledger(store: Store, filter: Filter) -> Ledger:
    runs = chosen_runs(store, filter)
    reports = [run.report for run in runs if run.report is not None]
    return Ledger(
        runs=len(runs),
        unfinished=sum(run.report is None and not run.imported for run in runs),
        imported=sum(run.imported for run in runs),
        total=sum(reports, RunReport()),
        latest=tuple(runs[:_LATEST_RUNS]),
    )
