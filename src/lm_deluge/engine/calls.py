"""One prompt from miss to answer: limits, build, send, parse, store, and again if that may help."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

from lm_deluge._threads import in_thread
from lm_deluge.engine.item import Item
from lm_deluge.engine.local_cache import LocalCache, raise_if_cancelled
from lm_deluge.engine.report import Counters
from lm_deluge.engine.sending import Sender
from lm_deluge.engine.settings import RunOptions, held_back_by, share_of, too_large
from lm_deluge.engine.settle import BREATHER, Settler
from lm_deluge.engine.single_flight import Flights, SingleFlight
from lm_deluge.engine.state import EngineState
from lm_deluge.engine.target import Target, Targets
from lm_deluge.engine.warming import Warming, WarmTurn
from lm_deluge.engine.warnings import Warnings
from lm_deluge.errors import ClosedError, LimitWarning, LMDelugeError, PromptCacheWarning, UnavailableError
from lm_deluge.events import AnswerReceived, CoolDown, Event, RetryScheduled
from lm_deluge.models import Model
from lm_deluge.prompt_cache import CachePlan
from lm_deluge.providers import Failure, parse
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse
from lm_deluge.text import counted
from lm_deluge.wire import HttpRequest, HttpResponse

__all__ = ["Caller"]

_log = logging.getLogger("lm_deluge")

_ASKS_FOR_A_PAUSE = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, 529})
# Gateways answer 403 to prompts that their moderation refuses, and 404 where no provider takes the parameters.
_ABOUT_THE_PROMPT = frozenset({400, 403, 404, 413, 422})
_WILL_NOT_CHANGE = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED})
_LONG_WAIT = 5.0
_LEAST_PATIENCE = 300.0  # with others who fetch the same answer


class Caller:
    """Answers the misses of one run.

    Args:
        on_rest: called with 1 when a prompt starts to wait for a retry, and with -1 when it goes on.
        on_wait: the same for a prompt that waits for another's answer.
        parameters: what is asked beside the prompts, by the name of the model; empty where neither cache needs it.
    """

    def __init__(
        self,
        state: EngineState,
        options: RunOptions,
        local: LocalCache,
        *,
        counters: Counters,
        warnings: Warnings,
        emit: Callable[[Event], None],
        on_rest: Callable[[int], None],
        on_wait: Callable[[int], None],
        parameters: Mapping[str, Parameters],
    ) -> None:
        self._state = state
        self._settings = state.settings
        self._pending = state.pending
        self._options = options
        self._local = local
        self._counters = counters
        self._warnings = warnings
        self._emit = emit
        self._on_rest = on_rest
        self._on_wait = on_wait
        self._parameters = parameters
        self._warming = Warming(state.warmth, state.leading, state.clock, on_wait=on_wait)
        self._single_flight = self._make_single_flight() if self._settings.single_flight else None
        self._targets = Targets(state, options, parameters)
        self._secrets = state.secrets()
        self._sender = Sender(
            state.transport, state.clock, timeout=self._settings.request_timeout, secrets=self._secrets
        )
        self._settler = Settler(state, local, counters, warnings, secrets=self._secrets, emit=emit)
        self._logged = False

    def prepare(self) -> None:
        """Warn of what requests will not hold."""
        for target in self._targets:
            target.warn(self._warnings)

    async def learn(self, items: Sequence[Item]) -> None:
        """See prompts that will be asked, so that what they share is known before the first of them is."""
        # Duplicates that share one call are one prompt.
        asked = {item.digest: item for item in items}.values() if self._single_flight is not None else items
        for item in asked:
            if not self._state.pace.step():
                await self._state.pace.turn()
            self._targets.learn([item.prompt])

    async def finish(self) -> None:
        """Return once every answer that has come is stored."""
        await self._settler.all_stored()
        for target in self._targets:
            target.advise(self._warnings)
        cache = self._options.prompt_cache
        if cache is not None and not cache.goes_on and self._counters.has_reads:
            return  # the first prompts of groups, which differ from each other without anything being wrong
        for reason, answers in self._counters.miss_reasons.items():
            self._warnings.warn(("miss", reason), _why_missed(reason, answers), PromptCacheWarning)

    def check_open(self) -> None:
        """Raise if nothing may be asked any more.

        Raises:
            ClosedError: the client was closed, or the cache that was to keep the answers.
        """
        self._state.lifetime.check()
        if self._local.is_closed:
            raise ClosedError(
                f"The cache {self._local.location} is closed, so this prompt was not asked: its answer could not have "
                "been kept. Run it again with an open cache."
            )

    async def answer(self, item: Item) -> APIResponse:
        """The answer to a prompt, or an error response. Never raises for what one prompt can cause."""
        try:
            if self._single_flight is not None:
                return await self._single_flight.answer(item, self._answer)
            return await self._answer(item)
        except UnavailableError as error:
            self._warnings.warn("gave up", str(error), LimitWarning)
            return self.failed(item, str(error))
        except LMDelugeError as error:
            return self.failed(item, str(error))
        except (GeneratorExit, KeyboardInterrupt, SystemExit):
            raise  # somebody ends the run, or the program
        except BaseException as error:  # noqa: BLE001 - a fault must not cost other prompts theirs
            raise_if_cancelled(error)
            if not self._logged:
                # As text, without what an exception of a user's transport may repeat.
                trace = self._secrets.hide("".join(traceback.format_exception(error)))
                _log.error("prompt %d failed; further failures of this run are not logged\n%s", item.id, trace)
            self._logged = True
            said = f": {error}" if str(error) else ", which says nothing more"
            return self.failed(item, self._secrets.hide(f"Unexpected {type(error).__name__}{said}"))

    async def _answer(self, item: Item) -> APIResponse:
        tokens = self._tokens(item)
        if isinstance(tokens, str):
            return self.failed(item, tokens)
        attempt = 0
        may_stream = True
        plans: dict[str, CachePlan] = {}  # by model; a retry goes where the first attempt went
        while True:
            model = self._state.pick_model()
            target = self._targets[model]
            if target.credential is None and model.service.key_required:
                return self.failed(item, _no_key(model), model=model)
            plan = plans.get(model.name)
            if plan is None:
                plan = plans[model.name] = target.plan(item.prompt, now=self._state.clock.monotonic())
            outcome = await self._attempt(item, target, plan, tokens, may_stream=may_stream)
            if isinstance(outcome, APIResponse):
                return outcome
            attempt += 1
            # No answer, or none that can be read: where the stream was at fault, a whole answer may come instead.
            may_stream = may_stream and outcome.status not in (0, HTTPStatus.OK)
            self._note_failure(model, item, outcome)
            delay = self._settings.retry.delay(
                attempt, retryable=outcome.retryable, retry_after=outcome.retry_after, rng=self._state.rng
            )
            if delay is None:
                times = f" (after {attempt} attempts)" if attempt > 1 else ""
                return self.failed(item, outcome.message + times, model=model, status=outcome.status or None)
            self._counters.retries += 1
            self._emit(RetryScheduled(attempt, delay, outcome.message))
            if outcome.status not in _ASKS_FOR_A_PAUSE:  # else the gate waits, with every call to the model
                await self._rest(model, delay)

    def _note_failure(self, model: Model, item: Item, failure: Failure) -> None:
        """What a failure says about the provider."""
        limits, now = self._state.limits, self._state.clock.monotonic()
        if failure.status in _ABOUT_THE_PROMPT:
            limits.answered(model.name)
            return
        seconds = limits.failed(
            model.name,
            failure.message,
            sent=item.sent,
            now=now,
            refused=failure.status in _ASKS_FOR_A_PAUSE,
            asked=failure.retry_after if failure.status in _ASKS_FOR_A_PAUSE else None,
            rng=self._state.rng,
            lasts=failure.status in _WILL_NOT_CHANGE or (failure.status == 429 and not failure.retryable),
        )
        if seconds is not None:
            self._emit(CoolDown(model.name, seconds, failure.message))

    async def _rest(self, model: Model, seconds: float) -> None:
        """Wait before another attempt, but no longer than the model is asked at all."""
        clock = self._state.clock
        until = clock.monotonic() + seconds
        self._on_rest(1)
        try:
            while (left := until - clock.monotonic()) > 0:
                self._state.limits.check(model.name, clock.monotonic())
                most = self._state.limits.gives_up_in(model.name, clock.monotonic())
                await clock.sleep(min(left, most or left))
        finally:
            self._on_rest(-1)

    def _tokens(self, item: Item) -> int | str:
        """About how many tokens a call takes from the budget, or why it never can."""
        budget = self._state.limits.tokens_per_minute
        tokens = item.prompt.count_tokens()
        return too_large(tokens, budget) or share_of(tokens, self._settings.params, budget)

    async def _attempt(
        self, item: Item, target: Target, plan: CachePlan, tokens: int, *, may_stream: bool
    ) -> APIResponse | Failure:
        """One call, or the answer that another request stored meanwhile."""
        item.arrival = None
        prefilled = False
        while item.arrival is None:
            # Before the gate, so that a prompt which waits for its prefix holds no slot.
            turn = await self._warming.enter(target.prefixes(plan))
            if turn.waited:
                self._counters.add_wait(turn.waited, is_first=not item.waited)
                item.waited = True
            try:
                if turn.leads:
                    await asyncio.sleep(0)  # the prompts that came with this one begin to wait
                if turn.is_awaited and target.prefills and not prefilled:
                    prefilled = await self._prefill(item, target, plan, turn)
                    if prefilled:
                        continue  # the prefix is warm, and the prompt takes its turn with those that read it
                outcome = await self._exchange(item, target, tokens, plan, turn, may_stream=may_stream)
            finally:
                turn.close()
            if outcome is not None:
                return outcome
        return await self._settler.conclude(item)

    async def _exchange(
        self, item: Item, target: Target, tokens: int, plan: CachePlan, turn: WarmTurn, *, may_stream: bool
    ) -> APIResponse | Failure | None:
        """A hit, or why there is no answer. None if the answer has arrived, which ``item`` then has, or if the prefix
        has ended while the call waited for the limits."""
        gate, limits = self._state.gate, self._state.limits
        if not gate.try_enter(target.model.name, tokens):
            arrived = self._state.clock.monotonic()
            await gate.enter(target.model.name, tokens, group=turn.group)
            now = self._state.clock.monotonic()
            if now - arrived > _LONG_WAIT and (what := held_back_by(limits, tokens, now=now)):
                self._warnings.warn("held back", what, LimitWarning)
        sent = False
        try:
            if self._local.may_know_by_now(item):
                hit = await self._local.look_again(item)
                if hit is not None:
                    self._count_hit(hit)
                    return hit
            if not turn.holds:
                return None
            # Others wait for its beginning, which does not show in an answer that comes as a whole.
            streams = may_stream and turn.may_be_awaited
            request = await self._build(item, target, plan, stream=streams)
            self.check_open()
            sent = item.is_sent = True
            item.sent = self._state.clock.monotonic()
            self._counters.calls += 1
            self._state.look_up_rates(target.model)  # meanwhile
            failure = await self._sender.send(
                target.model,
                request,
                turn,
                lambda received: self._settler.arrived(item, target, plan, received, tokens),
                stream=streams,
            )
            if failure is not None and failure.usage is not None:
                await self._settler.charge(target.model, failure.usage, None, was_wanted=True)
            return failure
        finally:
            item.is_sent = False
            if not sent:
                limits.give_back(tokens)
            gate.leave()

    async def _prefill(self, item: Item, target: Target, plan: CachePlan, turn: WarmTurn) -> bool:
        """Have the prefix written without an answer, for others wait for it. Returns whether it was.

        Where that fails, the prompt leads.
        """
        request = target.build_prefill(item.prompt, plan)
        if request is None:
            return False
        tokens = item.prompt.count_tokens()
        await self._state.gate.enter(target.model.name, tokens, group=turn.group)
        try:
            if not turn.is_awaited:  # meanwhile another has written it
                self._state.limits.give_back(tokens)
                return False
            self.check_open()
            started = self._state.clock.monotonic()
            turn.sent()
            self._counters.calls += 1
            received: list[HttpResponse] = []
            failure = await self._sender.send(
                target.model, request, self._warming.alone(), received.append, stream=False
            )
        finally:
            self._state.gate.leave()
        now = self._state.clock.time()
        reply = failure if failure is not None else parse(target.model, received[0], now=now, secrets=self._secrets)
        if isinstance(reply, Failure):
            if reply.status in _ASKS_FOR_A_PAUSE:
                self._pause(target.model, reply.retry_after or BREATHER, reply.message)
            return False
        turn.began(started=started)
        if reply.usage is not None:
            self._state.limits.settle(tokens, reply.usage.total_tokens)
            rates = await self._settler.charge(target.model, reply.usage, reply.service_tier, was_wanted=False)
            if rates is not None:
                self._counters.writes.add(plan.prefixes, reply.usage, rates, started=started, prompt=item.prompt)
        return True

    async def _build(self, item: Item, target: Target, plan: CachePlan, *, stream: bool) -> HttpRequest:
        if not self._state.pace.step():
            await self._state.pace.turn()
        # Built only now, so requests that wait for the limits hold no body. Encoding media takes a thread.
        if item.has_media:
            return await in_thread(lambda: target.build(item.prompt, plan, stream=stream))
        return target.build(item.prompt, plan, stream=stream)

    def _pause(self, model: Model, seconds: float, reason: str) -> None:
        self._state.pause(model, seconds, reason, self._emit)

    def _count_hit(self, hit: APIResponse) -> None:
        self._state.count_hits(self._counters, [hit], self._emit, store=self._local.location)

    def _make_single_flight(self) -> SingleFlight:
        # Without a cache, the prompt alone does not say what is asked; and a run that refreshes must not get what was
        # asked before it began. So these share among their own calls only.
        shares = self._local.keeps and self._local.mode == "use"
        # Prompts of runs with other parameters, or another idea of what is fresh, meet in the cache at the earliest,
        # where that is noticed.
        salt = b"".join(parameters.fingerprint for parameters in self._parameters.values())
        return SingleFlight(
            self._state.flights if shares else Flights(),
            self._state.keeper(self._local) if shares else None,
            self._local,
            salt=salt + repr(self._options.max_age).encode(),
            on_wait=self._on_wait,
            on_hit=self._count_hit,
            rng=self._state.rng,
            patience=max(_LEAST_PATIENCE, 2 * self._settings.retry.max_attempts * self._settings.request_timeout),
        )

    def failed(self, item: Item, message: str, *, model: Model | None = None, status: int | None = None) -> APIResponse:
        """Count an item that has no answer, and return its response."""
        response = item.error(message, model=(model or self._settings.models[0]).name, status=status)
        self._counters.add_answer(response)
        self._emit(AnswerReceived(None, None, message))
        return response


_MISSED: Mapping[str, str] = {
    "model_changed": "the model, or its speed, is another than in the request before. Keep to one",
    "system_changed": "the system text differs from the request before. Move what varies behind it",
    "tools_changed": "the tools differ from the request before. Keep the same ones in the same order",
    "messages_changed": "an earlier message differs from the request before. Append, and change nothing that was sent",
    "previous_message_not_found": "it has no record of the request before. That does not mean that anything changed",
    "unavailable": "it could not tell. Thinking, effort or tool_choice may differ from the request before",
}


def _why_missed(reason: str, answers: int) -> str:
    prompts = counted(answers, "prompt was", "prompts were")
    return f"{prompts} not read from the provider's cache, which says {reason}: {_MISSED.get(reason, 'see its guide')}."


def _no_key(model: Model) -> str:
    names = " or ".join(model.service.key_env)
    return f"There is no API key for {model.name!r}. Set {names}, or pass api_key= to LLMClient."
