"""A run without a provider: who is sent when, in a time that jumps from one event to the next, and what it costs.

The scheduler is that of real runs, and the plans are too; what a provider would read and write is predicted. All that
is guessed is how long an answer takes.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush

import msgspec

from lm_deluge.engine import chunks
from lm_deluge.models import Model, Rates
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache import (
    ANSWERED_AFTER,
    Bill,
    CachePlan,
    Entries,
    Forecast,
    Planner,
    Predictor,
    PromptCache,
    RoutingKeys,
)
from lm_deluge.providers import wire_format
from lm_deluge.schedule import Attempt, Limits, PrefixScheduler, Scheduler, Stage, Ticket, Window
from lm_deluge.tool import Tool
from lm_deluge.usage import Usage

__all__ = ["RunPlan", "forecast"]

_NO_PLAN = CachePlan()


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for each way of caching.

    Attributes:
        prompts: the prompts that are sent, in order, with their media loaded.
        tokens: about how many each has.
        shares: what each call takes from the limit of tokens until its answer is there.
        model: where they go.
        tools: the tools that all of them have.
        scope: anything else that separates caches, as for ``Planner``.
        at_once: requests in flight at a time.
        can_prefill: whether the provider writes such prompts to its cache without answering them.
        rates: the model's prices.
        output_tokens: tokens of each answer.
        requests_per_minute, tokens_per_minute: the client's limits.
    """

    prompts: Sequence[Conversation]
    tokens: Sequence[int]
    shares: Sequence[int]
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
        """How long it takes at least under the client's limits: a minute's worth starts at once, the rest evenly."""
        if not self.prompts:
            return 0.0
        return ANSWERED_AFTER + 60 * max(0.0, self.minutes_by_requests - 1, self.minutes_by_tokens - 1)

    @property
    def minutes_by_requests(self) -> float:
        """How many minutes' worth of requests there are."""
        return len(self.prompts) / self.requests_per_minute

    @property
    def minutes_by_tokens(self) -> float:
        """How many minutes' worth of tokens there are."""
        most = self.tokens_per_minute
        return sum(min(tokens + self.output_tokens, most) for tokens in self.tokens) / most


def forecast(run: RunPlan, cache: PromptCache | None, planner: Planner | None) -> Forecast:
    """What one way of caching leads to.

    Args:
        run: what is sent.
        cache: how the provider should cache; None for requests that say nothing of it.
        planner: plans requests; None where nothing can be done for the provider's cache.
    """
    plans = _plans(run.prompts, planner)
    client = _Client(run)
    warms = planner is not None and planner.warms
    prefills = warms and run.can_prefill and cache is not None and cache.warm == "prefill"
    cold = _Simulation(run, client, plans, warms=warms, prefills=prefills).run()
    warm = _Simulation(run, client, plans, warms=warms, prefills=prefills).run()
    unwarmed = _Simulation(run, _Client(run), plans).run() if warms else None
    return Forecast(cache=cache, cold=cold, warm=warm, unwarmed=unwarmed)


def _plans(prompts: Sequence[Conversation], planner: Planner | None) -> list[CachePlan]:
    """What each request says. Prompts are learned in pieces, as a run sees them; a second run says the same."""
    if planner is None:
        return [_NO_PLAN] * len(prompts)
    plans: list[CachePlan] = []
    for start in range(0, len(prompts), chunks.MOST):
        piece = prompts[start : start + chunks.MOST]
        planner.learn(piece)
        plans += map(planner.plan, piece)
    return plans


class _Client:
    """What lasts from one run to the next: the client's state, and the provider's."""

    def __init__(self, run: RunPlan) -> None:
        per_message = wire_format(run.model).tokens_per_message
        self.provider = Predictor(run.model, run.tools, scope=run.scope, tokens_per_message=per_message)
        self.prefixes: PrefixScheduler[Ticket] = PrefixScheduler()
        self.routing_keys = RoutingKeys()
        self.limits = Limits(requests_per_minute=run.requests_per_minute, tokens_per_minute=run.tokens_per_minute)
        self.now = 0.0


class _Prompt(msgspec.Struct, frozen=True, eq=False):
    """A prompt that has begun."""

    conversation: Conversation
    plan: CachePlan
    tokens: int
    share: int


class _Simulation:
    """One run. The driver of a scheduler whose time is a heap of events."""

    is_abandoned = False

    def __init__(
        self, run: RunPlan, client: _Client, plans: Sequence[CachePlan], *, warms: bool = False, prefills: bool = False
    ) -> None:
        self._run = run
        self._client = client
        self._warms = warms
        self._prefills = prefills
        self._bill = _Adding(run.rates)
        self._prompts = self._begun(plans)
        self._window = Window(run.at_once)
        # Nothing is random here, for there are no pauses.
        self._scheduler = Scheduler(
            client.limits, client.prefixes, slots=run.at_once, rng=random.Random(0), driver=self
        )
        self._followers: list[Ticket] = []  # those that can move on
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def run(self) -> Bill:
        """Send all prompts, and add up what they cost."""
        self._begin()
        while self._events:
            self._client.now, _, event = heappop(self._events)
            event()
            self._move_followers()
        return self._bill.total()

    def wake(self, ticket: Ticket) -> None:
        """Let a ticket move on, after what happens at this moment already."""
        self._at(self._client.now, lambda: self._move(ticket))

    def wake_followers(self, tickets: list[Ticket]) -> None:
        """Let followers move on."""
        self._followers += tickets

    def _begun(self, plans: Sequence[CachePlan]) -> Iterator[_Prompt]:
        """Prompts as they begin, which is when they get their routing keys."""
        run, client = self._run, self._client
        limit = run.model.caching.key_limit
        for conversation, tokens, share, plan in zip(run.prompts, run.tokens, run.shares, plans, strict=True):
            rate = client.limits.calls_per_minute(tokens)
            spread = client.routing_keys.spread(plan, limit, client.now, rate=rate)
            yield _Prompt(conversation, spread, tokens, share)

    def _at(self, time: float, event: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._events, (time, self._count, event))

    def _begin(self) -> None:
        """Begin with prompts as long as more may be begun."""
        while self._window.may_begin and (prompt := next(self._prompts, None)) is not None:
            self._window.begin()
            attempt = Attempt(
                model=self._run.model.name,
                tokens=prompt.share,
                prefixes=prompt.plan.prefixes if self._warms else (),
                prefill=prompt.tokens if self._prefills and prompt.plan.is_long_enough else None,
                on_wait=lambda change, _: self._window.wait(change),
            )
            ticket = self._scheduler.enter(attempt, self._client.now)
            ticket.waiter = prompt
            self._go_on(ticket)

    def _move(self, ticket: Ticket) -> None:
        self._scheduler.move(ticket, self._client.now)
        self._go_on(ticket)

    def _move_followers(self) -> None:
        while self._followers:
            followers, self._followers = self._followers, []
            for ticket in followers:
                self._move(ticket)

    def _go_on(self, ticket: Ticket) -> None:
        """Send what may go, and come back to what moves on by itself. An answer never takes a follower's patience."""
        if ticket.stage is Stage.READY:
            self._send(ticket)
        elif ticket.stage is Stage.LEADER:
            self.wake(ticket)
        elif ticket.until is not None and ticket.stage is not Stage.FOLLOWER:
            self._at(ticket.until, lambda: self._move(ticket))

    def _send(self, ticket: Ticket) -> None:
        client, prompt = self._client, ticket.waiter
        assert isinstance(prompt, _Prompt)  # noqa: S101 - nothing else is given to a ticket here
        self._scheduler.sent(ticket, client.now)
        usage, entries = client.provider.look_up(prompt.conversation, prompt.plan, client.now)
        usage = msgspec.structs.replace(usage, output_tokens=0 if ticket.is_prefill else self._run.output_tokens)
        self._bill.add(usage)
        started = client.now
        self._at(started + ANSWERED_AFTER, lambda: self._answered(ticket, entries, usage, started=started))

    def _answered(self, ticket: Ticket, entries: Entries, usage: Usage, *, started: float) -> None:
        client, scheduler = self._client, self._scheduler
        client.provider.publish(entries, started)
        client.limits.settle(ticket.share, usage.total_tokens)
        scheduler.done(ticket, client.now)
        scheduler.began(ticket, started=started, now=client.now)
        if ticket.is_prefill:
            scheduler.resume(ticket, client.now)
            self._go_on(ticket)
        else:
            scheduler.leave(ticket, client.now)
            self._window.end()
        self._begin()  # before those who waited have taken note that they may go
        self._move_followers()
        self._begin()  # again, for some of those may have to wait for another


class _Adding:
    """A bill while it grows."""

    def __init__(self, rates: Rates | None) -> None:
        self._rates = rates
        self._usage = Usage()
        self._cost = self._uncached = 0.0
        self._writes = self._reads = 0

    def add(self, usage: Usage) -> None:
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
