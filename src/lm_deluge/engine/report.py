"""Counting and telling what a run does and costs, and its account: what the local cache keeps of that."""

import functools
import itertools
import operator
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from lm_deluge._clock import Clock
from lm_deluge._locks import renewed
from lm_deluge._per_process import PerProcess
from lm_deluge.cache.runs import Run
from lm_deluge.cache.writer import Write
from lm_deluge.engine.warnings import Warnings
from lm_deluge.events import AnswerReceived, HitsServed, Listener, RunReport, count_word
from lm_deluge.prompt_cache.write_audit import WriteAudit, WriteLog
from lm_deluge.response import APIResponse
from lm_deluge.usage import Usage

__all__ = ["Account", "Accounts", "Counters", "Reporter", "Tokens"]

_MOST_ACCOUNTS = 1_024  # of runs that span calls, in one client

Keep = Callable[[Run], Write | None]
"""Hands an account over to a cache."""


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
    """The counters of a run. Answers are counted in the thread that settles them, all else on the event loop.

    Args:
        writes: the run's writes to the provider's prompt cache; None where there will be none.
    """

    def __init__(self, writes: WriteAudit | None = None) -> None:
        self.writes = WriteAudit(WriteLog(), goes_on=True) if writes is None else writes
        self._lock = renewed(threading.Lock())
        self._hits = self._answers = self._errors = self._unpriced = 0
        self._cost = self._cost_avoided = self._cost_uncached = 0.0
        self._paid = Tokens()
        self._avoided = Tokens()
        self.calls = 0
        self.retries = 0
        self.hits_of_other_requests = 0
        self.cache_failures = 0
        self.store_failures = 0
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

    def add_failure(self, count: int = 1, *, storing: bool = False) -> None:
        """Count what the local cache failed at, and whether that was storing an answer."""
        with self._lock:
            self.cache_failures += count
            self.store_failures += count if storing else 0

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
            hits_of_other_requests=self.hits_of_other_requests,
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
            store_failures=self.store_failures,
            damaged_entries=self.damaged_entries,
            not_stored=self.not_stored,
            prompt_cache_hits=dict(self._prompt_cache_hits),
            wasted_write_cost=self.writes.wasted_cost(),
            cache_miss_reasons=dict(self.miss_reasons),
            waited_for_prefix=self._waited,
            longest_wait_for_prefix=self._longest_wait,
            seconds=seconds,
        )


class Reporter:
    """What a run says of itself: its counters, its warnings, and events.

    Args:
        emit: called with each event.
        writes: as for ``Counters``.
    """

    def __init__(self, emit: Listener = lambda _: None, writes: WriteAudit | None = None) -> None:
        self.emit = emit
        self.counters = Counters(writes)
        self.warnings = Warnings()

    def hits(self, responses: Sequence[APIResponse], *, store: str) -> None:
        """Count local hits, and tell."""
        self.emit(HitsServed(len(responses), self.counters.add_hits(responses, store=store)))

    def failed(self, response: APIResponse) -> APIResponse:
        """Count an error response, and tell. Returns it."""
        self.counters.add_answer(response)
        self.emit(AnswerReceived(None, None, response.error_message))
        return response


class Account:
    """The account of one run. A run may span calls, of several event loops and threads; each call is a part of it.

    Args:
        name, tags: how the user finds it again.
        models: the client's.
        clock: tells when the run began.
    """

    def __init__(self, name: str | None, tags: tuple[str, ...], models: tuple[str, ...], clock: Clock) -> None:
        self._run = Run(id=secrets.randbits(62) + 1, started=clock.time(), name=name, tags=tags, models=models)
        self._clock = clock
        self._began = clock.monotonic()
        # Reentrant, because what keeps an account may be a store of the user's.
        self._lock = renewed(threading.RLock())
        self._parts = itertools.count()
        self._open: dict[int, RunReport] = {}
        self._over: RunReport | None = None
        self._spans = False

    @property
    def id(self) -> int:
        """By which entries name the run that bought them."""
        return self._run.id

    def begin(self, keep: Keep) -> int:
        """A part begins. Returns its number."""
        with self._lock:
            part = next(self._parts)
            self._spans = part > 0
            if not self._spans:
                # At the beginning, so that the entries of a run that is killed can still be told by its name and tags.
                keep(self._run)
            return part

    def update(self, part: int, report: RunReport, keep: Keep, *, is_over: bool) -> Write | None:
        """Hand over what the run did and cost up to now.

        Args:
            part: its number.
            report: what this part did.
            keep: hands the account over.
            is_over: whether nothing more will be said of this part.
        """
        with self._lock:
            if is_over:
                self._open.pop(part, None)
                self._over = report if self._over is None else self._over + report
            else:
                self._open[part] = report
            return keep(msgspec.structs.replace(self._run, report=self._sum()))

    def _sum(self) -> RunReport:
        parts = [*self._open.values()] if self._over is None else [self._over, *self._open.values()]
        total = functools.reduce(operator.add, parts)
        if not self._spans:
            return total
        # Calls may have gone on side by side.
        return msgspec.structs.replace(total, seconds=self._clock.monotonic() - self._began)


class Accounts:
    """The accounts of a client's runs that span calls: one for each name and tags, until the client is closed."""

    def __init__(self) -> None:
        self._lock = renewed(threading.Lock())
        # A forked child's run is another one: its figures would replace those of its parent.
        self._accounts: PerProcess[OrderedDict[tuple[str | None, tuple[str, ...]], Account]] = PerProcess(OrderedDict)

    def __len__(self) -> int:
        with self._lock:
            return len(self._accounts.get())

    def get(self, name: str | None, tags: tuple[str, ...], models: tuple[str, ...], clock: Clock) -> Account:
        """The account of the run with this name and these tags."""
        with self._lock:
            accounts = self._accounts.get()
            account = accounts.get((name, tags))
            if account is None:
                account = accounts[name, tags] = Account(name, tags, models, clock)
            accounts.move_to_end((name, tags))
            if len(accounts) > _MOST_ACCOUNTS:  # a name used again after so many others is another run
                accounts.popitem(last=False)
            return account
