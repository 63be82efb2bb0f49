"""What prompts will cost with each way of caching them at the provider, before any of them is sent."""

from typing import Literal

import msgspec

from lm_deluge.prompt_cache.options import PromptCache
from lm_deluge.prompt_cache.patterns import Pattern
from lm_deluge.text import counted, duration, money
from lm_deluge.usage import Usage

__all__ = ["ANSWERED_AFTER", "Bill", "Estimate", "Forecast"]

ANSWERED_AFTER = 5.0
"""Seconds from a request to its answer; those to long prompts take a few to begin."""

_NONE = "none"
_FOR_BATCHES = ("shared_prefix", "system_and_tools")  # what most prompts could be cached with

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
        unwarmed: cold, and no prompt waits until the first with its prefix has written it. None where none waits
            anyway.
        advice: what a run would warn of.
    """

    cache: PromptCache | None
    cold: Bill
    warm: Bill
    unwarmed: Bill | None = None
    advice: tuple[str, ...] = ()

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
    ``output_tokens``. Requests go out as a run of the client would send them, and an answer takes five seconds.

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

    @property
    def advice(self) -> tuple[str, ...]:
        """What a run with the best of them would warn of; if that is none, why it is, as far as that can be helped."""
        if self.best.cache is not None:
            return self.best.advice
        if len({each.cache for each in self.forecasts}) == 2:
            return self.forecasts[1].advice
        others = [each for pattern in _FOR_BATCHES for each in self.forecasts if each.pattern == pattern]
        return next((each.advice for each in others if each.advice), ())

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
            raise KeyError(f"{cache!r} {problem}; what was: {', '.join(by_name)}")
        return found[0]

    def __str__(self) -> str:
        """A table of plain text."""
        rows = [("pattern", "cold", "warm", "writes", "reads", "read share")]
        rows += [
            (
                each.name,
                money(each.cold.cost),
                money(each.warm.cost),
                f"{each.cold.writes:,}",
                f"{each.cold.reads:,}",
                f"{each.cold.hit_ratio:.1%}",
            )
            for each in self.forecasts
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        prompts = counted(self.prompts, "prompt")
        if self.prompts == self.hits + self.unusable:
            left_out = f", {self.unusable:,} cannot be sent: {self.problem}" if self.unusable else ""
            return f"Nothing to pay: of {prompts} the local cache answers {self.hits:,}{left_out}"
        asked = f"{self.prompts - self.hits - self.unusable:,} of {prompts} to {self.model}"
        by = "" if self.cost_without_prompt_caching is not None else " (by tokens; no price is known)"
        lines = [f"{asked}; best: {self.best.name}{by}"]
        for name, *cells in rows:
            padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *padded]).rstrip())
        tokens = self.output_tokens
        answers = "answers left out" if tokens is None else f"{counted(tokens, 'token')} an answer"
        lines.append(f"estimated: {answers}; four bytes a token; an answer takes {ANSWERED_AFTER:g} s")
        if self.held_back_by is not None:
            lines.append(f"at least {duration(self.seconds)}, for {self.held_back_by} holds it back")
        if self.unusable:
            lines.append(f"{self.unusable:,} cannot be sent: {self.problem}")
        lines += self.advice
        return "\n".join(lines)
