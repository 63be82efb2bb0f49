"""Filters of entries and runs, for everything that works on a part of a store."""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

import msgspec

from lm_deluge.cache.entry import Stored, has_id
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores import JournalStore, ScanStore, Store
from lm_deluge.errors import CacheError, ConfigError

__all__ = ["Filter", "chosen_runs", "entries", "runs_of", "scannable"]

_ID = re.compile(r"[0-9a-f]{0,96}|[0-9a-f]{1,64}-[0-9a-f]{0,32}")


class Filter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Conditions for entries. All that are set must hold; an empty filter chooses all entries.

    Attributes:
        namespace: the ``cache_key`` under which they were stored.
        model: the model that was asked or the one that answered; ``*``, ``?`` and ``[...]`` as in file names.
        older_than: stored before this time, in seconds since the Unix epoch.
        newer_than: stored at this time or later. An entry whose time is not known is neither older nor newer.
        run: the name or the id of the run that bought them.
        tag: a tag of that run.
        key: the beginning of the key, in hexadecimal, or a short id such as ``8f3a12cd-4b21`` (see ``short_id``).

    Raises:
        ConfigError: ``key`` is neither, or the times leave nothing.
    """

    namespace: str | None = None
    model: str | None = None
    older_than: float | None = None
    newer_than: float | None = None
    run: str | int | None = None
    tag: str | None = None
    key: str = ""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.key.lower()):
            raise ConfigError(f"{self.key!r} is not the beginning of a key: up to 96 hexadecimal digits.")
        msgspec.structs.force_setattr(self, "key", self.key.lower())
        if self.older_than is not None and self.newer_than is not None and self.older_than <= self.newer_than:
            raise ConfigError(f"No entry is older than {self.older_than} and newer than {self.newer_than}.")

    @property
    def needs_runs(self) -> bool:
        """Whether the accounts of runs are needed."""
        return self.run is not None or self.tag is not None

    def matches(self, stored: Stored, runs: Mapping[int, Run] | None = None) -> bool:
        """Whether an entry is chosen.

        Args:
            stored: the entry.
            runs: the store's runs by id, as ``runs_of`` gives them; needed for ``run`` and ``tag`` only.
        """
        facts, created = stored.facts, stored.facts.created
        names = [name for name in (facts.asked, facts.model) if name is not None]
        run = (runs or {}).get(facts.run)
        return (
            (self.namespace is None or stored.namespace == self.namespace)
            and (not self.key or has_id(stored.key, self.key))
            and (self.older_than is None or 0 < created < self.older_than)
            and (self.newer_than is None or (created > 0 and created >= self.newer_than))
            and (self.model is None or any(fnmatchcase(name, self.model) for name in names))
            and (not self.needs_runs or (run is not None and self.matches_run(run)))
        )

    def matches_run(self, run: Run) -> bool:
        """Whether a run is chosen, by its name or id and its tags."""
        if self.tag is not None and self.tag not in run.tags:
            return False
        return self.run is None or str(self.run) in (run.name, str(run.id))


def entries(
    store: Store,
    filter: Filter = Filter(),  # noqa: B008 - frozen
    *,
    newest_first: bool = False,
) -> Iterator[Stored]:
    """The chosen entries of a store, a few at a time, without holding up writers.

    Args:
        store: any store that can be scanned.
        filter: which entries; all if not given.
        newest_first: the last stored ones first; otherwise in any order.

    Raises:
        CacheError: the store cannot say what it holds, or keeps no runs and the filter needs them.
    """
    found = scannable(store)
    runs = runs_of(store) if filter.needs_runs else {}
    for stored in found.scan(namespace=filter.namespace, newest_first=newest_first):
        if filter.matches(stored, runs):
            yield stored


def chosen_runs(store: Store, filter: Filter = Filter()) -> list[Run]:  # noqa: B008 - frozen
    """The runs that a filter chooses by name, id and tag, the newest first; none where the store keeps none."""
    return [run for run in store.runs() if filter.matches_run(run)] if isinstance(store, JournalStore) else []


def runs_of(store: Store) -> dict[int, Run]:
    """The runs of a store by id.

    Raises:
        CacheError: the store keeps none.
    """
    if not isinstance(store, JournalStore):
        raise CacheError(f"{store.location} keeps no runs, so entries cannot be chosen by run or tag.")
    return {run.id: run for run in store.runs()}


def scannable(store: Store) -> ScanStore:
    """The same store, as one that can list its entries.

    Raises:
        CacheError: it cannot.
    """
    if not isinstance(store, ScanStore):
        raise CacheError(f"{store.location} cannot list its entries. Use a SqliteCache, LevelDBCache or RedisCache.")
    return store
