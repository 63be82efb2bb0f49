"""What prompts will cost with each way of caching them at the provider, before any of them is sent."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal

import msgspec

from lm_deluge.models import Model, Rates
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache.options import PromptCache
from lm_deluge.prompt_cache.patterns import Pattern
from lm_deluge.prompt_cache.planner import CachePlan, Planner
from lm_deluge.prompt_cache.predict import Predictor
from lm_deluge.prompt_cache.sharding import Sharding
from lm_deluge.tool import Tool
from lm_deluge.usage import Usage

__all__ = ["Bill", "Estimate", "Forecast", "PlannedRun", "forecast", "paced"]

_LEARNED_AT_ONCE = 512  # prompts that a run sees before the first of them is planned
_CHAT_TOKENS_PER_MESSAGE = 1
BEGINS_AFTER = 5.0  # seconds; answers to long prompts take a few
_NO_PLAN = CachePlan()
_NONE = "none"

# What reads and writes cost beside other input where no price is known: the usual multiples.
_READ, _WRITE = 0.1, 1.25


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What requests use and cost.

    Attributes:
        usage: their tokens.
        cost: US dollars; None where no price is known.
        cost_without_prompt_caching: the same if all of the prompt were plain input.
        writes: requests that write to the provider's prompt cache.
        reads: requests that read from it.
    """

    usage: Usage = Usage()
    cost: float | None = None
    cost_without_prompt_caching: float | None = None
    writes: int = 0
    reads: int = 0

    @property
    def hit_ratio(self) -> float:
        """The share of prompt tokens that are read from the provider's prompt cache, 0 to 1."""
        return self.usage.cache_hit_ratio

    @property
    def weight(self) -> float:
        """What bills are compared by: dollars, or input tokens by the usual multiples where no price is known."""
        if self.cost is not None:
            return self.cost
        return self.usage.input_tokens + _READ * self.usage.cache_read_tokens + _WRITE * self.usage.cache_write_tokens


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """One way of caching, and what it leads to.

    Attributes:
        cache: how the provider is asked to cache; None for requests that say nothing about it.
        cold: the provider's cache holds nothing of the prompts yet.
        warm: the same prompts once more, while the entries live.
        unwarmed: cold, and nobody waits until the first with a prefix has written it. None where nobody does anyway.
    """

    cache: PromptCache | None
    cold: Bill
    warm: Bill
    unwarmed: Bill | None = None

    @property
    def pattern(self) -> Pattern | None:
        """The pattern of ``cache``."""
        return None if self.cache is None else self.cache.pattern

    @property
    def name(self) -> str:
        """The pattern, and what else was asked for: ``"shared_prefix 1h"``; ``"none"`` where nothing was."""
        if self.cache is None:
            return _NONE
        warming = {True: "", False: "unwarmed", "prefill": "prefill"}[self.cache.warm]
        return " ".join(filter(None, [self.cache.pattern, self.cache.ttl, warming]))


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a run would cost. ``str(estimate)`` is a table.

    Tokens are estimated: four bytes of text make one, and an image counts 1,600. Answers count what was asked for in
    ``output_tokens``. Requests start as the client's limits allow, and an answer begins five seconds after its request.

    Attributes:
        model: which one would be asked.
        prompts: answers that were asked about; samples count each.
        hits: those that the local cache has, which cost nothing.
        unusable: those that cannot be sent.
        problem: why the first of those cannot.
        output_tokens: tokens of each answer that are in the bills; None where they are left out.
        forecasts: the ways of caching that were asked about, that without any first.
        seconds: how long the run takes at least under the client's limits.
        held_back_by: the limit that decides this, where it is more than a minute.
    """

    model: str
    prompts: int = 0
    hits: int = 0
    unusable: int = 0
    problem: str | None = None
    output_tokens: int | None = None
    forecasts: tuple[Forecast, ...] = ()
    seconds: float = 0.0
    held_back_by: Literal["max_tokens_per_minute", "max_requests_per_minute"] | None = None

    @property
    def cost_without_prompt_caching(self) -> float | None:
        """US dollars if all of each prompt were plain input; None where no price is known."""
        return self.forecasts[0].cold.cost_without_prompt_caching

    @property
    def best(self) -> Forecast:
        """The cheapest while the provider's cache is cold; of equals the first."""
        least = min(each.cold.weight for each in self.forecasts)
        return next(each for each in self.forecasts if each.cold.weight <= least * (1 + 1e-9))

    def __getitem__(self, cache: str | PromptCache | None) -> Forecast:
        """The forecast of a way of caching: the value that was given, a pattern, or a name; None for no caching.

        Raises:
            KeyError: it was not asked about, or it is a pattern that was asked about with several settings.
        """
        by_name = {each.name: each for each in self.forecasts}
        if isinstance(cache, PromptCache) or cache is None:
            found = [each for each in self.forecasts if each.cache == cache]
        elif cache in by_name:
            found = [by_name[cache]]
        else:
            found = [each for each in self.forecasts if each.pattern == cache]
        if len(found) != 1:
            problem = "was asked about more than once" if found else "was not asked about"
            raise KeyError(f"{cache!r} {problem}; there are {', '.join(by_name)}")
        return found[0]

    def __str__(self) -> str:
        """A table of plain text."""
        rows = [("pattern", "cold", "warm", "writes", "reads", "read share")]
        rows += [
            (
                each.name,
                _dollars(each.cold.cost),
                _dollars(each.warm.cost),
                f"{each.cold.writes:,}",
                f"{each.cold.reads:,}",
                f"{each.cold.hit_ratio:.1%}",
            )
            for each in self.forecasts
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        asked = f"{self.prompts - self.hits - self.unusable:,} of {self.prompts:,} prompts to {self.model}"
        by = "" if self.cost_without_prompt_caching is not None else " (by tokens; no price is known)"
        lines = [f"{asked}; best: {self.best.name}{by}"]
        for name, *cells in rows:
            padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *padded]).rstrip())
        answers = "answers left out" if self.output_tokens is None else f"{self.output_tokens:,} tokens an answer"
        lines.append(f"estimated: {answers}; four bytes a token; an answer begins {BEGINS_AFTER:g} s after its request")
        if self.held_back_by is not None:
            lines.append(f"at least {self.seconds / 60:,.0f} minutes; {self.held_back_by} holds it back")
        return "\n".join(lines)


class PlannedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for each way of caching.

    Attributes:
        prompts: the prompts that are sent, in order, with their media loaded.
        started: when each is sent, in seconds.
        model: where they go.
        tools: the tools that all of them have.
        scope: whatever else separates caches, as for ``Planner``.
        at_once: requests under way at a time.
        can_prefill: whether the provider writes such prompts to its cache without answering them.
        rates: the model's prices.
        output_tokens: tokens of each answer.
        requests_per_minute, tokens_per_minute: the client's limits.
    """

    prompts: Sequence[Conversation]
    started: Sequence[float]
    model: Model
    tools: Sequence[Tool] = ()
    scope: bytes = b""
    at_once: int = 1
    can_prefill: bool = False
    rates: Rates | None = None
    output_tokens: int = 0
    requests_per_minute: float = math.inf
    tokens_per_minute: float = math.inf

    @property
    def seconds(self) -> float:
        """How long it takes at least."""
        return self.started[-1] + BEGINS_AFTER if self.started else 0.0

    def send(self, provider: Predictor, planner: Planner | None, sharding: Sharding, *, after: float = 0.0) -> Bill:
        """Send all prompts and add up what they cost. The run begins ``after`` seconds."""
        bill = _Adding(self.rates)
        limit = self.model.caching.key_limit
        known = len(provider.prefilled)
        for (conversation, plan), now in zip(self._planned(planner), self.started, strict=True):
            if plan.prompt_cache_key is not None:
                plan = plan.sharded(
                    sharding.pick(plan.prompt_cache_key, limit, now + after, rate=self._rate(conversation))
                )
            bill.add(provider.send(conversation, plan, now + after), output_tokens=self.output_tokens)
        provider.finish()
        for usage in provider.prefilled[known:]:
            bill.add(usage, output_tokens=0)
        return bill.total()

    def _rate(self, conversation: Conversation) -> float:
        """Requests like this one that can be sent in a minute at most."""
        return min(self.requests_per_minute, self.tokens_per_minute / max(1, conversation.count_tokens()))

    def new_provider(self, *, waits: bool, prefills: bool = False) -> Predictor:
        """A cold cache."""
        per_message = 0 if self.model.service.wire == "anthropic" else _CHAT_TOKENS_PER_MESSAGE
        return Predictor(
            self.model,
            self.tools,
            scope=self.scope,
            tokens_per_message=per_message,
            at_once=self.at_once,
            waits=waits,
            prefills=prefills and self.can_prefill,
            begins_after=BEGINS_AFTER,
        )

    def _planned(self, planner: Planner | None) -> Iterator[tuple[Conversation, CachePlan]]:
        """Prompts and their plans, seen in pieces as a run sees them."""
        rest = iter(self.prompts)
        while piece := list(islice(rest, _LEARNED_AT_ONCE)):
            if planner is not None:
                planner.learn(piece)
            for conversation in piece:
                yield conversation, _NO_PLAN if planner is None else planner.plan(conversation)


def forecast(run: PlannedRun, cache: PromptCache | None, new_planner: Callable[[], Planner | None]) -> Forecast:
    """What one way of caching leads to.

    Args:
        run: what is sent.
        cache: how the provider should cache; None for requests that say nothing of it.
        new_planner: gives a planner for a run; None where nothing can be done for the provider's cache.
    """
    planner = new_planner()
    warms = planner is not None and planner.warms
    provider = run.new_provider(waits=warms, prefills=cache is not None and cache.warm == "prefill")
    sharding = Sharding()
    cold = run.send(provider, planner, sharding)
    warm = run.send(provider, new_planner(), sharding, after=run.started[-1] if run.started else 0.0)
    unwarmed = run.send(run.new_provider(waits=False), new_planner(), Sharding()) if warms else None
    return Forecast(cache=cache, cold=cold, warm=warm, unwarmed=unwarmed)


def paced(tokens: Iterable[int], *, requests_per_minute: float, tokens_per_minute: float) -> Iterator[float]:
    """When each of some requests may start under a client's limits, in seconds: a minute's worth at once, then evenly.

    Args:
        tokens: about how many each has.
        requests_per_minute, tokens_per_minute: the limits.
    """
    total = 0.0
    for number, size in enumerate(tokens, start=1):
        total += min(size, tokens_per_minute)
        minutes = max(number / requests_per_minute, total / tokens_per_minute) - 1
        yield max(0.0, 60 * minutes)


class _Adding:
    """A bill while it grows."""

    def __init__(self, rates: Rates | None) -> None:
        self._rates = rates
        self._usage = Usage()
        self._cost = self._uncached = 0.0
        self._writes = self._reads = 0

    def add(self, usage: Usage, *, output_tokens: int) -> None:
        usage = msgspec.structs.replace(usage, output_tokens=output_tokens)
        self._usage += usage
        self._writes += usage.has_cache_write
        self._reads += usage.has_cache_hit
        if self._rates is not None:
            # Of each by itself: long prompts may cost more a token.
            self._cost += self._rates.cost(usage)
            self._uncached += self._rates.uncached_cost(usage)

    def total(self) -> Bill:
        priced = self._rates is not None
        return Bill(
            usage=self._usage,
            cost=self._cost if priced else None,
            cost_without_prompt_caching=self._uncached if priced else None,
            writes=self._writes,
            reads=self._reads,
        )


def _dollars(value: float | None) -> str:
    return "?" if value is None else f"${value:,.4f}" if value < 10 else f"${value:,.2f}"
