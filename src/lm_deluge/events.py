"""What happened, as frozen values. Progress bars, logs and reports listen; the engine never prints."""

from collections.abc import Callable
from typing import Any

import msgspec

from lm_deluge._printable import shown
from lm_deluge.usage import Usage

__all__ = [
    "AnswerReceived",
    "CoolDown",
    "Event",
    "HitsServed",
    "Listener",
    "RetryScheduled",
    "RunFinished",
    "RunReport",
    "RunStarted",
    "count_word",
]

_MOST_WORDS = 32  # of a provider's own, in one report


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did and what it cost. Reports can be added.

    Attributes:
        prompts: responses given, errors included.
        hits: answered from the local cache.
        hits_by_store: the same, by where the entries are.
        hits_of_other_requests: hits that were asked of another model or with other parameters, which a cache of
            ``scope="conversation"`` serves.
        calls: HTTP requests sent, retries included.
        errors: prompts that ended without an answer.
        retries: calls that were made again.
        usage: tokens paid for, by kind.
        usage_avoided: tokens of the answers that came from the local cache.
        cost: US dollars paid.
        cost_avoided: US dollars that local hits saved.
        cost_without_prompt_caching: what the paid answers would have cost had the provider's prompt cache been unused.
        unpriced: answers whose price is not known; they count 0 in the sums.
        cache_failures: what the local cache failed at: a lookup was a miss, an answer was not stored, a lease of single
            flight was done without, an account or an explanation was left out.
        store_failures: those of them that were answers which could not be stored. They were delivered all the same.
        damaged_entries: stored entries that did not decode; each was treated as a miss and quarantined.
        not_stored: answers that were not stored because they are refused, filtered, empty or not admitted.
        prompt_cache_hits: answers of which the provider read part of the prompt from its own cache, by provider.
        wasted_write_cost: US dollars, at least, paid for writing to the provider's prompt cache what was there already,
            or what no other prompt of the run read. Providers do not say which tokens they wrote, so what is not
            certain is left out. Patterns for prompts that go on from each other count the first kind alone.
        cache_miss_reasons: answers for which the provider said why it read nothing from its cache, by its word for the
            reason. Only where that was asked with ``PromptCache(diagnostics=True)``.
        waited_for_prefix: prompts that waited until another had written the prefix that they share.
        longest_wait_for_prefix: seconds that one of them waited at most.
        seconds: how long the run took.
    """

    prompts: int = 0
    hits: int = 0
    hits_by_store: dict[str, int] = {}
    hits_of_other_requests: int = 0
    calls: int = 0
    errors: int = 0
    retries: int = 0
    usage: Usage = Usage()
    usage_avoided: Usage = Usage()
    cost: float = 0.0
    cost_avoided: float = 0.0
    cost_without_prompt_caching: float = 0.0
    unpriced: int = 0
    cache_failures: int = 0
    store_failures: int = 0
    damaged_entries: int = 0
    not_stored: int = 0
    prompt_cache_hits: dict[str, int] = {}
    wasted_write_cost: float = msgspec.field(default=0.0, name="lost_to_writes")  # as cache files have it
    cache_miss_reasons: dict[str, int] = {}
    waited_for_prefix: int = 0
    longest_wait_for_prefix: float = 0.0
    seconds: float = 0.0

    @property
    def prompt_cache_hit_ratio(self) -> float:
        """The share of the prompt tokens paid for that were read from the provider's prompt cache, 0 to 1."""
        return self.usage.cache_hit_ratio

    @property
    def saved_by_prompt_cache(self) -> float:
        """US dollars that the provider's prompt cache saved; below 0 where writes cost more than reads brought back."""
        return self.cost_without_prompt_caching - self.cost

    def __str__(self) -> str:
        """All that is not zero, each on a line of its own."""
        names = (*self.__struct_fields__, "saved_by_prompt_cache", "prompt_cache_hit_ratio")
        told = {name: _told(getattr(self, name)) for name in names}
        return "\n".join(f"{name}: {text}" for name, text in told.items() if text)

    def __add__(self, other: "RunReport") -> "RunReport":
        if not isinstance(other, RunReport):
            return NotImplemented
        summed: dict[str, Any] = {}
        for name in self.__struct_fields__:
            theirs = getattr(other, name)
            if not theirs:
                continue  # most of what a single prompt can do, it has not done
            ours = getattr(self, name)
            if name == "longest_wait_for_prefix":
                summed[name] = max(ours, theirs)
            elif isinstance(ours, dict):
                summed[name] = dict(ours)
                for word, number in theirs.items():
                    count_word(summed[name], word, number)
            else:
                summed[name] = ours + theirs
        return msgspec.structs.replace(self, **summed)


def count_word(counts: dict[str, int], word: str, number: int = 1) -> None:
    """Count a provider's word; of very many different ones, those that come late count as ``"other"``."""
    kept = word if word in counts or len(counts) < _MOST_WORDS else "other"
    counts[kept] = counts.get(kept, 0) + number


def _told(value: Any) -> str:
    """A number or some of them with their names; nothing for what is zero."""
    if isinstance(value, Usage):
        value = msgspec.structs.asdict(value)
    if isinstance(value, dict):
        named = [f"{shown(name)} {_told(each)}" for name, each in value.items() if each]
        return ", ".join(named[:_MOST_WORDS]) + (
            f" and {len(named) - _MOST_WORDS:,} more" if named[_MOST_WORDS:] else ""
        )
    return (f"{value:,.6g}" if isinstance(value, float) else f"{value:,}") if value else ""


class RunStarted(msgspec.Struct, frozen=True):
    """A run begins. ``total`` is None when the number of prompts is not known in advance."""

    total: int | None
    models: tuple[str, ...]


class HitsServed(msgspec.Struct, frozen=True):
    """Prompts were answered from the local cache: how many, and the US dollars that this saved."""

    count: int
    cost_avoided: float


class AnswerReceived(msgspec.Struct, frozen=True):
    """A prompt is done without the local cache. ``cost`` is None when it is not known; ``error`` when there is none."""

    cost: float | None
    usage: Usage | None
    error: str | None = None


class RetryScheduled(msgspec.Struct, frozen=True):
    """A call failed and will be made again after ``delay`` seconds."""

    attempt: int
    delay: float
    reason: str


class CoolDown(msgspec.Struct, frozen=True):
    """No call to this model starts for ``seconds``: its provider asks for that, or has failed many times."""

    model: str
    seconds: float
    reason: str


class RunFinished(msgspec.Struct, frozen=True):
    """A run is over."""

    report: RunReport


Event = RunStarted | HitsServed | AnswerReceived | RetryScheduled | CoolDown | RunFinished

Listener = Callable[[Event], None]
"""Called on the event loop's thread for each event; it must not block. One that raises is not called any more."""
