"""Aliases that have moved: names of models for which another model answers than before.

A provider may serve another model under a name such as ``gpt-4.1-mini``. A cache that has grown over months may then
hold answers of several models under one name, and results that mix them are not what they seem.
"""

import msgspec

from lm_deluge.cache.admin.filters import Filter, entries
from lm_deluge.cache.stores import Store

__all__ = ["Drift", "Resolved", "drift"]


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """One model that answered for an alias.

    Attributes:
        model: as the provider names it.
        entries: how many of its answers there are.
        first: when the first of them was stored, in seconds since the Unix epoch.
        last: the same of the last.
    """

    model: str
    entries: int
    first: float
    last: float


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """A name that several models have answered for.

    Attributes:
        asked: the model as it was asked for.
        resolved: the models that answered, in the order of their first answers.
    """

    asked: str
    resolved: tuple[Resolved, ...]

    @property
    def since(self) -> float:
        """When the newest model began to answer, in seconds since the Unix epoch."""
        return self.resolved[-1].first


def drift(store: Store, filter: Filter = Filter()) -> tuple[Drift, ...]:  # noqa: B008 - frozen
    """All names for which more than one model has answered. The latest change comes first.

    Args:
        store: the store.
        filter: which entries to look at.

    Raises:
        CacheError: the store cannot be read, or cannot say what it holds.
    """
    seen: dict[str, dict[str, Resolved]] = {}
    for stored in entries(store, filter):
        asked, model, created = stored.facts.asked, stored.facts.model, stored.facts.created
        if asked is None or model is None:
            continue
        models = seen.setdefault(asked, {})
        known = models.get(model, Resolved(model=model, entries=0, first=created, last=created))
        models[model] = Resolved(
            model=model, entries=known.entries + 1, first=min(known.first, created), last=max(known.last, created)
        )
    found = [
        Drift(asked=asked, resolved=tuple(sorted(models.values(), key=lambda each: each.first)))
        for asked, models in seen.items()
        if len(models) > 1
    ]
    return tuple(sorted(found, key=lambda each: each.since, reverse=True))
