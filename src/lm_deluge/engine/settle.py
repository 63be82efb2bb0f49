"""Settling an answer: it is read, priced, stored and counted, in that order, even if the run has ended.

From its last byte on an answer is paid for. So what follows is plain functions that need no event loop: they are called
on the loop where it has time, and in a thread where it does not come to it (see ``_overdue``). The writer's thread
stores the answer and gives its lease back.
"""

import asyncio
import threading
from collections.abc import Callable

import msgspec

from lm_deluge import _overdue as overdue
from lm_deluge._json import LARGE
from lm_deluge._threads import in_thread
from lm_deluge.cache.writer import Write
from lm_deluge.engine.item import Item
from lm_deluge.engine.local_cache import LocalCache
from lm_deluge.engine.report import Reporter
from lm_deluge.engine.state import EngineState
from lm_deluge.engine.target import Target
from lm_deluge.errors import ModelWarning
from lm_deluge.events import AnswerReceived, CoolDown
from lm_deluge.models import Model, Rates
from lm_deluge.prompt_cache import CachePlan
from lm_deluge.providers import Failure, Reply, parse, wire_format
from lm_deluge.response import APIResponse
from lm_deluge.usage import Usage
from lm_deluge.wire import HttpResponse

__all__ = ["Arrival", "Settler"]


BREATHER = 1.0
"""Seconds for which calls to a model pause that does not say how long."""

_UNREAD = Failure(status=0, message="not read yet", retryable=False)


class Settler:
    """How one run settles.

    Attributes:
        secrets: what is sent and must not be repeated.
    """

    def __init__(self, state: EngineState, local: LocalCache, reporter: Reporter) -> None:
        self.state = state
        self.local = local
        self.reporter = reporter
        self.counters = reporter.counters
        self.secrets = state.secrets()
        self._unstored: dict[Write, None] = {}

    def arrived(self, item: Item, target: Target, plan: CachePlan, received: HttpResponse, tokens: int) -> None:
        """An answer has come. To be called right after its last byte, with nothing awaited in between."""
        arrival = item.arrival = Arrival(self, item, target, plan, received, tokens)
        if self.state.pace.step() and not arrival.is_large:
            arrival.settle()
        else:
            overdue.announce(arrival)

    async def conclude(self, item: Item) -> APIResponse | Failure:
        """The response to an item whose answer has arrived, once it is stored; or why it has none.

        The answer is priced, stored, counted and told, in this order. What has to happen in any case happens in
        ``Arrival.settle``, with or without this.
        """
        arrival = item.arrival
        if not isinstance(arrival, Arrival):
            raise TypeError("no answer has arrived")
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # in the moment in which the answer came
            arrival.settle()
            raise asyncio.CancelledError
        if not arrival.is_settled:
            await self._settle(arrival)
        target, reply = arrival.target, arrival.reply
        model = target.model
        refilled = wire_format(model).pause(arrival.received.headers, now=self.state.clock.time())
        if refilled:
            # The headers tell when the limit will be full again; some of it is there much sooner.
            self.pause(model, min(refilled, BREATHER), "its rate limit is used up")
        if isinstance(reply, Failure):
            return reply
        if not arrival.is_priced:
            arrival.price(await self._standard_rates(model))
        rates, usage = arrival.rates, reply.usage
        if rates is None:
            self._warn_of_price(model, reply.service_tier)
        if rates is not None and usage is not None and (usage.cache_read_tokens or usage.cache_write_tokens):
            self.counters.writes.add(arrival.plan.prefixes, usage, rates, started=item.sent, prompt=item.prompt)
        answer = await arrival.stored()
        if (reason := target.learn_from(reply, item.prompt, arrival.plan)) is not None:
            self.counters.add_miss_reason(self.secrets.hide(reason))
        self.reporter.emit(AnswerReceived(answer.cost, usage))
        return answer

    async def _settle(self, arrival: "Arrival") -> None:
        """Settle an answer when the loop has time, or in a thread if that takes long."""
        if arrival.is_large:
            await in_thread(arrival.settle)
        else:
            try:
                await self.state.pace.turn()
            finally:
                arrival.settle()

    def pause(self, model: Model, seconds: float, reason: str) -> None:
        """Let no call to a model start for a time, and tell if that is news."""
        if self.state.limits.pause(model.name, seconds, self.state.clock.monotonic()):
            self.reporter.emit(CoolDown(model.name, seconds, reason))

    def failed(self, item: Item, message: str, *, model: Model | None = None, status: int | None = None) -> APIResponse:
        """Count an item that has no answer, and tell. Returns its response."""
        name = (model or self.state.settings.models[0]).name
        return self.reporter.failed(item.error(message, model=name, status=status))

    async def charge(self, model: Model, usage: Usage, tier: str | None, *, was_wanted: bool) -> Rates | None:
        """Put what was paid without an answer on the account. Returns the prices.

        Args:
            model: which model was asked.
            usage: what it charged.
            tier: at which tier.
            was_wanted: whether an answer was asked for, so that it would have been paid without prompt caching too.
        """
        standard = await self._standard_rates(model)
        rates = None if standard is None else standard.for_tier(tier)
        if rates is None:
            self._warn_of_price(model, tier)
            self.counters.add_unanswered(usage, cost=None, uncached_cost=None)
        else:
            uncached = rates.uncached_cost(usage) if was_wanted else 0.0
            self.counters.add_unanswered(usage, cost=rates.cost(usage), uncached_cost=uncached)
        return rates

    async def _standard_rates(self, model: Model) -> Rates | None:
        """The prices of a model, or None, once they are known."""
        look_up = self.state.look_up_rates(model)
        if look_up.done():
            return look_up.result()
        known = await self.state.rates(model)
        if not self.state.pace.step():  # all that waited go on in this moment
            await self.state.pace.turn()
        return known

    def _warn_of_price(self, model: Model, tier: str | None) -> None:
        """Say that a model's prices, or those of a tier, are not known, which has been looked up."""
        if model.service.price_provider is None:
            return
        is_known = self.state.look_up_rates(model).result() is not None
        at = f" in service tier {tier!r}" if is_known else ""
        remedy = "Upgrade" if is_known else "Check the name, or upgrade"
        self.reporter.warnings.warn(
            ("price", model.name, tier),
            f"No price is known for {model.name!r}{at}; the cost of such answers is None. "
            f"{remedy} the price list with: pip install -U genai-prices",
            ModelWarning,
        )

    def store(self, arrival: "Arrival", response: APIResponse, *, is_first: bool) -> Write | None:
        """Hand a response to the cache."""
        write = self.local.submit(arrival.item, response, arrival.target.parameters, is_first=is_first)
        if write is not None:
            self._unstored[write] = None
            write.when_done(lambda done: self._unstored.pop(done, None))
            self.state.pending.arrived(arrival.item, write)
        return write

    async def all_stored(self) -> None:
        """Return once every answer that has come is stored, or could not be."""
        while unstored := list(self._unstored):
            for write in unstored:
                await write.over()


class Arrival:
    """An answer that has come.

    Attributes:
        item: whose answer it is.
        received: what came.
        reply: what it says, once it is settled.
        response: the response that was made of it; None until then, and if it is a failure.
        write: on its way into the cache; None if it is not to be stored.
        is_priced: whether its cost is in ``response``, as far as it is known at all.
        rates: the prices by which that is so; None if they are not known.
    """

    __slots__ = (
        "_is_settling",
        "_lock",
        "_settler",
        "_tokens",
        "is_priced",
        "is_settled",
        "item",
        "plan",
        "rates",
        "received",
        "reply",
        "response",
        "target",
        "write",
    )

    def __init__(
        self, settler: Settler, item: Item, target: Target, plan: CachePlan, received: HttpResponse, tokens: int
    ) -> None:
        self.item = item
        self.target = target
        self.plan = plan
        self.reply: Reply | Failure = _UNREAD
        self.is_settled = False
        self.response: APIResponse | None = None
        self.write: Write | None = None
        self.is_priced = False
        self.rates: Rates | None = None
        self._settler = settler
        self.received = received
        self._tokens = tokens
        self._is_settling = False
        self._lock = threading.RLock()  # not renewed: an answer is settled by the process that it came to

    @property
    def is_large(self) -> bool:
        """Whether reading it is work for a thread."""
        return len(self.received.body) > LARGE

    def settle(self) -> None:
        """Do what has to be done, unless it is done. From any thread."""
        with self._lock:
            if self.is_settled or self._is_settling:  # by an ``admit`` of the user's that comes back here
                return
            self._is_settling = True
            try:
                self.reply = self._settle()
                self.is_settled = True
            finally:
                self._is_settling = False
        if self.response is not None and not self.is_priced:
            # Its price comes in another thread, which calls this even if the run has ended.
            look_up = self._settler.state.look_up_rates(self.target.model)
            look_up.add_done_callback(lambda found: self.price(found.result()))

    def settle_if_idle(self) -> None:
        """``settle``, unless another thread is in the middle of it, which may wait for the caller."""
        if self._lock.acquire(blocking=False):
            try:
                self.settle()
            finally:
                self._lock.release()

    def price(self, rates: Rates | None) -> None:
        """Its model's prices are known now. From any thread."""
        with self._lock:
            if self.is_priced or not isinstance(self.reply, Reply) or self.response is None:
                return
            self._price(self.reply, rates)
            # Stored at once without its cost, and again with it: a price is not worth an answer.
            if self.write is not None and self.response.cost is not None:
                self.write = self._settler.store(self, self.response, is_first=False)

    async def stored(self) -> APIResponse:
        """The response, once it is stored; with the key of its entry if it could be."""
        write = self.write
        if write is not None:
            await write.over()
        if self.response is None:
            raise TypeError("a failure has no response")
        if write is None or write.failure is not None or write.key is None:
            return self.response
        return msgspec.structs.replace(self.response, entry=write.key.hex())

    def when_stored(self, then: Callable[[], None]) -> None:
        """Have ``then`` called once it is stored, or at once if it is not to be. In any thread."""
        with self._lock:
            write = self.write
        if write is None:
            then()
        else:
            write.when_done(lambda _: then())

    def _settle(self) -> Reply | Failure:
        settler, model = self._settler, self.target.model
        state = settler.state
        reply = parse(model, self.received, now=state.clock.time(), secrets=settler.secrets)
        if isinstance(reply, Failure):
            return reply
        state.limits.answered(model.name)
        if reply.usage is not None:
            state.limits.settle(self._tokens, reply.usage.total_tokens)
        self.response = self.item.answer(model.name, reply, self.received)
        look_up = state.look_up_rates(model)
        if look_up.done():
            self._price(reply, look_up.result())
        self.write = settler.store(self, self.response, is_first=True)
        settler.counters.add_answer(self.response, provider=model.service.name)
        if self.item.on_answer is not None:
            self.item.on_answer()
        return reply

    def _price(self, reply: Reply, rates: Rates | None) -> None:
        if self.response is None:
            return
        cost = uncached = None
        rates = self.rates = None if rates is None else rates.for_tier(reply.service_tier)
        if rates is not None and reply.usage is not None:
            cost = uncached = rates.cost(reply.usage)
            if reply.usage.cache_read_tokens or reply.usage.cache_write_tokens:
                uncached = rates.uncached_cost(reply.usage)
            self.response = msgspec.structs.replace(self.response, cost=cost)
        self.is_priced = True
        self._settler.counters.add_cost(cost, uncached_cost=uncached)
