"""A run without a provider: who is sent when, in a time that jumps from one event to the next, and what it costs.

Turns, line and limits are those of real runs, and plans are too; what a provider would read and write is predicted. All
that is guessed is how long an answer takes.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from lm_deluge.schedule import FairQueue, Limits, PrefixScheduler, PrefixTicket
from lm_deluge.tool import Tool
from lm_deluge.usage import Usage

__all__ = ["RunPlan", "forecast"]

_NO_PLAN = CachePlan()
_NO_TURN = PrefixTicket(role="follow")


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for each way of caching.

    Attributes:
        prompts: the prompts that are sent, in order, with their media loaded.
        tokens: about how many each has.
        shares: what each call takes from the limit of tokens until its answer is there.
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
    cold = _Rehearsal(run, client, plans, warms=warms, prefills=prefills).play()
    warm = _Rehearsal(run, client, plans, warms=warms, prefills=prefills).play()
    unwarmed = _Rehearsal(run, _Client(run), plans).play() if warms else None
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
        self.warmth: PrefixScheduler[_Prompt] = PrefixScheduler()
        self.routing_keys = RoutingKeys()
        self.limits = Limits(requests_per_minute=run.requests_per_minute, tokens_per_minute=run.tokens_per_minute)
        self.now = 0.0


class _Prompt(msgspec.Struct, eq=False):
    """A prompt on its way. Each is equal to itself only."""

    conversation: Conversation
    plan: CachePlan
    tokens: int
    share: int
    turn: PrefixTicket = _NO_TURN
    prefill: bool = False  # what is sent next is a request without an answer
    prefilled: bool = False


class _Rehearsal:
    """One run."""

    def __init__(
        self, run: RunPlan, client: _Client, plans: Sequence[CachePlan], *, warms: bool = False, prefills: bool = False
    ) -> None:
        self._run = run
        self._client = client
        self._warms = warms
        self._prefills = prefills
        self._bill = _Adding(run.rates)
        self._prompts = self._begun(plans)
        self._active = 0  # prompts that have begun and do not wait for another
        self._slots = run.at_once
        self._for_slots: FairQueue[_Prompt] = FairQueue()
        self._turn_is_free = True
        self._for_turn: FairQueue[_Prompt] = FairQueue()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def play(self) -> Bill:
        """Send all prompts, and add up what they cost."""
        self._hire()
        while self._events:
            self._client.now, _, event = heappop(self._events)
            event()
        return self._bill.total()

    def _begun(self, plans: Sequence[CachePlan]) -> Iterator[_Prompt]:
        """Prompts as they begin, which is when they get their routing keys."""
        run, client = self._run, self._client
        limit = run.model.caching.key_limit
        for conversation, tokens, share, plan in zip(run.prompts, run.tokens, run.shares, plans, strict=True):
            rate = client.limits.calls_per_minute(tokens)
            spread = client.routing_keys.spread(plan, limit, client.now, rate=rate)
            yield _Prompt(conversation, spread, tokens, share)

    def _later(self, seconds: float, event: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._events, (self._client.now + seconds, self._count, event))

    def _hire(self) -> None:
        """Begin with prompts as long as more may be under way."""
        while self._active < self._run.at_once and (prompt := next(self._prompts, None)) is not None:
            self._active += 1
            self._enter(prompt)

    def _enter(self, prompt: _Prompt) -> None:
        """Take a turn with those that have the same prefix."""
        prefixes = prompt.plan.prefixes if self._warms else ()
        turn = prompt.turn = self._client.warmth.enter(prefixes, self._client.now, prompt)
        if turn.role == "wait":
            self._active -= 1
        elif turn.leads:
            self._later(0.0, lambda: self._lead(prompt))
        else:
            self._ask(prompt)

    def _lead(self, prompt: _Prompt) -> None:
        """Those that came with a leader wait by now, so it is known whether there is something to prefill for."""
        may_prefill = self._prefills and not prompt.prefilled and prompt.plan.is_long_enough
        prompt.prefill = may_prefill and self._client.warmth.is_awaited(prompt.turn)
        self._ask(prompt)

    def _ask(self, prompt: _Prompt) -> None:
        """Ask for a slot, and then for the turn at the limits."""
        if self._slots:
            self._slots -= 1
            self._ask_limits(prompt)
        else:
            self._for_slots.push(prompt, prompt.turn.group, self._client.now)

    def _ask_limits(self, prompt: _Prompt) -> None:
        if self._turn_is_free:
            self._turn_is_free = False
            self._acquire(prompt)
        else:
            self._for_turn.push(prompt, prompt.turn.group, self._client.now)

    def _acquire(self, prompt: _Prompt) -> None:
        wait = self._client.limits.acquire(self._run.model.name, self._share(prompt), self._client.now)
        if wait:
            self._later(wait, lambda: self._acquire(prompt))
            return
        next_one = self._for_turn.pop(self._client.now)
        if next_one is None:
            self._turn_is_free = True
        else:
            self._later(0.0, lambda: self._acquire(next_one))
        self._send(prompt)

    def _send(self, prompt: _Prompt) -> None:
        """Send a request, unless what it was to read has ended meanwhile."""
        client, turn = self._client, prompt.turn
        if not client.warmth.holds(turn, client.now):
            client.limits.give_back(self._share(prompt))
            prompt.prefill = False
            self._leave()
            self._wake(client.warmth.cancelled(turn))
            self._enter(prompt)
            return
        client.warmth.sent(turn, client.now)
        usage, entries = client.provider.look_up(prompt.conversation, prompt.plan, client.now)
        usage = msgspec.structs.replace(usage, output_tokens=0 if prompt.prefill else self._run.output_tokens)
        self._bill.add(usage)
        started = client.now
        self._later(ANSWERED_AFTER, lambda: self._answered(prompt, entries, usage, started=started))

    def _answered(self, prompt: _Prompt, entries: Entries, usage: Usage, *, started: float) -> None:
        client, turn = self._client, prompt.turn
        client.provider.publish(entries, started)
        client.limits.settle(self._share(prompt), usage.total_tokens)
        self._leave()
        woken = client.warmth.began(turn, started=started, now=client.now)
        if prompt.prefill:
            prompt.prefill, prompt.prefilled = False, True
            self._enter(prompt)
        else:
            self._active -= 1
        self._hire()  # before those who waited have taken note that they may go
        self._wake(woken)
        self._hire()  # again, for some of those may have to wait for another

    def _leave(self) -> None:
        """Free a slot."""
        next_one = self._for_slots.pop(self._client.now)
        if next_one is None:
            self._slots += 1
        else:
            self._later(0.0, lambda: self._ask_limits(next_one))

    def _wake(self, prompts: Iterable[_Prompt]) -> None:
        for prompt in prompts:
            self._active += 1
            self._enter(prompt)

    @staticmethod
    def _share(prompt: _Prompt) -> int:
        """What the next request takes from the limit of tokens."""
        return prompt.tokens if prompt.prefill else prompt.share


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
