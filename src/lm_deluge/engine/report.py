"""Counting what one run does and costs."""

import threading
from collections import Counter
from collections.abc import Sequence

from lm_deluge._locks import renewed
from lm_deluge.events import RunReport, count_word
from lm_deluge.prompt_cache.write_audit import WriteLog, Writes
from lm_deluge.response import APIResponse
from lm_deluge.usage import Usage

__all__ = ["Counters", "Tokens"]


class Tokens:
    """A running sum of usage; cheaper than adding frozen values tens of thousands of times a second."""

    def __init__(self) -> None:
        self._input = self._output = self._read = self._write = self._write_1h = self._reasoning = 0

    def add(self, usage: Usage | None) -> None:
        if usage is None:
            return
        self._input += usage.input_tokens
        self._output += usage.output_tokens
        self._read += usage.cache_read_tokens
        self._write += usage.cache_write_tokens
        self._write_1h += usage.cache_write_1h_tokens
        self._reasoning += usage.reasoning_tokens

    def total(self) -> Usage:
        return Usage(
            input_tokens=self._input,
            output_tokens=self._output,
            cache_read_tokens=self._read,
            cache_write_tokens=self._write,
            cache_write_1h_tokens=self._write_1h,
            reasoning_tokens=self._reasoning,
        )


class Counters:
    """The counters of a run. Answers are counted in whatever thread settles them, all else on the event loop.

    Args:
        writes: the run's writes to the provider's prompt cache; None where there will be none.
    """

    def __init__(self, writes: Writes | None = None) -> None:
        self.writes = Writes(WriteLog(), goes_on=True) if writes is None else writes
        self._lock = renewed(threading.Lock())
        self._hits = self._answers = self._errors = self._unpriced = 0
        self._cost = self._cost_avoided = self._cost_uncached = 0.0
        self._paid = Tokens()
        self._avoided = Tokens()
        self.calls = 0
        self.retries = 0
        self.cache_failures = 0
        self.damaged_entries = 0
        self.not_stored = 0
        self._waited = 0
        self._longest_wait = 0.0
        self._hits_by_store: Counter[str] = Counter()
        self._prompt_cache_hits: Counter[str] = Counter()
        self.miss_reasons: dict[str, int] = {}

    def add_hits(self, responses: Sequence[APIResponse], *, store: str) -> float:
        """Count local hits; returns the US dollars that they saved."""
        saved = 0.0
        self._hits += len(responses)
        self._hits_by_store[store] += len(responses)
        for response in responses:
            saved += response.cost_avoided
            self._avoided.add(response.usage)
        self._cost_avoided += saved
        return saved

    def add_answer(self, response: APIResponse, *, provider: str = "") -> None:
        """Count a response that the local cache did not have. Its cost is counted by ``add_cost``."""
        with self._lock:
            self._answers += 1
            if response.is_error:
                self._errors += 1
                return
            self._paid.add(response.usage)
            if response.cache_hit:
                self._prompt_cache_hits[provider] += 1

    def add_cost(self, cost: float | None, *, uncached_cost: float | None) -> None:
        """Count what an answer cost, and would have cost without the provider's cache; None if that is not known."""
        with self._lock:
            if cost is None:
                self._unpriced += 1
            else:
                self._cost += cost
                self._cost_uncached += cost if uncached_cost is None else uncached_cost

    def add_failure(self, count: int = 1) -> None:
        """Count what the local cache failed at."""
        with self._lock:
            self.cache_failures += count

    @property
    def has_reads(self) -> bool:
        """Whether any prompt was read from a provider's cache."""
        return self._paid.total().has_cache_hit

    def add_miss_reason(self, reason: str) -> None:
        """Count why the provider read nothing from its cache."""
        count_word(self.miss_reasons, reason)

    def add_wait(self, seconds: float, *, is_first: bool) -> None:
        """Count a prompt that waited for another to write its prefix; each once, however often it waits."""
        self._waited += is_first
        self._longest_wait = max(self._longest_wait, seconds)

    def add_unanswered(self, usage: Usage | None, *, cost: float | None, uncached_cost: float | None) -> None:
        """Count what a request cost that gave no answer: it only wrote a prefix, or broke in the middle."""
        with self._lock:
            self._paid.add(usage)
        self.add_cost(cost, uncached_cost=uncached_cost or 0.0)

    def report(self, *, seconds: float) -> RunReport:
        """What was counted so far."""
        return RunReport(
            prompts=self._hits + self._answers,
            hits=self._hits,
            hits_by_store=dict(self._hits_by_store),
            calls=self.calls,
            errors=self._errors,
            retries=self.retries,
            usage=self._paid.total(),
            usage_avoided=self._avoided.total(),
            cost=self._cost,
            cost_avoided=self._cost_avoided,
            cost_without_prompt_caching=self._cost_uncached,
            unpriced=self._unpriced,
            cache_failures=self.cache_failures,
            damaged_entries=self.damaged_entries,
            not_stored=self.not_stored,
            prompt_cache_hits=dict(self._prompt_cache_hits),
            lost_to_writes=self.writes.lost(),
            cache_miss_reasons=dict(self.miss_reasons),
            waited_for_prefix=self._waited,
            longest_wait_for_prefix=self._longest_wait,
            seconds=seconds,
        )
