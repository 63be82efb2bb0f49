"""The attempts that get an item its answer: limits, build, send, and again if that may help.

One attempt is one HTTP exchange: whole, or in pieces where others wait for its beginning.
"""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus

import msgspec

from lm_deluge._clock import Clock
from lm_deluge._secrets import Secrets
from lm_deluge._threads import in_thread
from lm_deluge.engine.item import Item
from lm_deluge.engine.settings import held_back_by, share_of, too_large
from lm_deluge.engine.settle import BREATHER, Settler
from lm_deluge.engine.target import Target
from lm_deluge.errors import (
    ClosedError,
    ConnectError,
    ConnectionDropped,
    LimitWarning,
    RequestTimeout,
    TransportError,
)
from lm_deluge.events import CoolDown, RetryScheduled
from lm_deluge.models import Model
from lm_deluge.prompt_cache import CachePlan
from lm_deluge.providers import Failure, Reply, StreamReader, as_whole, parse
from lm_deluge.response import APIResponse
from lm_deluge.schedule import Admission, Attempt
from lm_deluge.text import duration
from lm_deluge.transport import Transport
from lm_deluge.wire import HttpRequest, HttpResponse, host_of

__all__ = ["Attempts"]

_ASKS_FOR_A_PAUSE = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, 529})
# Gateways answer 403 to prompts that their moderation refuses, and 404 where no provider takes the parameters.
_ABOUT_THE_PROMPT = frozenset({400, 403, 404, 413, 422})
_WILL_NOT_CHANGE = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED})
_WORTH_ANOTHER_TRY = (ConnectError, ConnectionDropped, RequestTimeout)
_LONG_WAIT = 5.0


class Attempts:
    """Gets the items of one run their answers from a provider, in as many attempts as that takes.

    Args:
        targets: by the name of the model.
        on_rest: called with 1 when an item starts to wait for another attempt, and with -1 when it goes on.
        on_wait: the same for an item that waits for another to write its prefix.
    """

    def __init__(
        self,
        settler: Settler,
        targets: Mapping[str, Target],
        *,
        on_rest: Callable[[int], None],
        on_wait: Callable[[int], None],
    ) -> None:
        state = settler.state
        self._state = state
        self._settings = state.settings
        self._local = settler.local
        self._targets = targets
        self._settler = settler
        self._reporter = settler.reporter
        self._counters = settler.counters
        self._on_rest = on_rest
        self._on_wait = on_wait
        self._secrets = settler.secrets
        self._sender = Sender(
            state.transport, state.clock, timeout=self._settings.request_timeout, secrets=self._secrets
        )

    def check_open(self) -> None:
        """Raise if nothing may be asked any more.

        Raises:
            CancelledError: the item was cancelled in the moment in which what it waited for was there.
            ClosedError: the client was closed, or the cache that was to keep the answers.
        """
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        self._state.client.check_open()
        if self._local.is_closed:
            raise ClosedError(
                f"The cache {self._local.location} is closed, so this prompt was not asked: its answer could not have "
                "been kept. Run it again with an open cache."
            )

    async def answer(self, item: Item) -> APIResponse:
        """The answer to an item, or an error response.

        Raises:
            LMDelugeError: nothing more may be asked, or the item cannot be sent.
        """
        tokens = self._tokens(item)
        if isinstance(tokens, str):
            return self._settler.failed(item, tokens)
        attempt = 0
        may_stream = True
        plans: dict[str, CachePlan] = {}  # by model; a retry goes where the first attempt went
        while True:
            model = self._state.pick_model()
            target = self._targets[model.name]
            if target.credential is None and model.service.key_required:
                return self._settler.failed(item, _no_key(model), model=model)
            plan = plans.get(model.name)
            if plan is None:
                plan = plans[model.name] = target.plan(item.prompt, now=self._state.clock.monotonic())
            outcome = await self._attempt(item, target, plan, tokens, may_stream=may_stream)
            if isinstance(outcome, APIResponse):
                return outcome
            if self._state.client.closed is not None:
                raise ClosedError(outcome.message)  # which says nothing of the provider, to others who wait for it
            attempt += 1
            # No answer, or none that can be read: where the stream was at fault, a whole answer may come instead.
            may_stream = may_stream and outcome.status not in (0, HTTPStatus.OK)
            self._note_failure(model, item, outcome)
            delay = self._settings.retry.delay(
                attempt, retryable=outcome.retryable, retry_after=outcome.retry_after, rng=self._state.rng
            )
            if delay is None:
                times = f" (after {attempt} attempts)" if attempt > 1 else ""
                asked, longest = outcome.retry_after, self._settings.retry.longest_asked
                if outcome.retryable and asked and longest and self._settings.retry.asks_too_much(asked):
                    times += (
                        f" It asks for a pause of {duration(asked)}, which is longer than give_up_after allows: "
                        f"{duration(longest)}. Raise it to wait."
                    )
                return self._settler.failed(item, outcome.message + times, model=model, status=outcome.status or None)
            self._counters.retries += 1
            self._reporter.emit(RetryScheduled(attempt, delay, outcome.message))
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
            self._reporter.emit(CoolDown(model.name, seconds, failure.message))

    async def _rest(self, model: Model, seconds: float) -> None:
        """Wait before another attempt, but no longer than the model is asked at all."""
        resting = Attempt(model=model.name, tokens=0, on_wait=lambda change, _: self._on_rest(change))
        await self._state.gate.rest(resting, seconds)

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

        def on_wait(change: int, seconds: float | None) -> None:
            self._on_wait(change)
            if seconds:
                self._counters.add_wait(seconds, is_first=not item.waited)
                item.waited = True

        attempt = Attempt(
            model=target.model.name,
            tokens=tokens,
            prefixes=target.prefixes(plan),
            prefill=item.prompt.count_tokens() if target.can_prefill(item.prompt, plan) else None,
            on_wait=on_wait,
        )
        async with self._state.gate.admission(attempt) as ticket:
            while ticket.is_prefill:
                await self._prefill(item, target, plan, ticket)
                await ticket.resume()
            outcome = await self._exchange(item, target, tokens, plan, ticket, may_stream=may_stream)
        return await self._settler.conclude(item) if outcome is None else outcome

    async def _exchange(
        self, item: Item, target: Target, tokens: int, plan: CachePlan, ticket: Admission, *, may_stream: bool
    ) -> APIResponse | Failure | None:
        """A hit, or why there is no answer. None if the answer has arrived, which ``item`` then has."""
        limits, clock = self._state.limits, self._state.clock
        if ticket.queued > _LONG_WAIT and (what := held_back_by(limits, tokens, now=clock.monotonic())):
            self._reporter.warnings.warn("held back", what, LimitWarning)
        if self._local.may_know_by_now(item):
            hit = await self._local.look_again(item)
            if hit is not None:
                self._local.served(hit)
                return hit
        # Others wait for its beginning, which does not show in an answer that comes as a whole.
        streams = may_stream and ticket.may_be_awaited
        request = await self._build(item, target, plan, stream=streams)
        self.check_open()
        item.is_sent = True
        try:
            item.sent = clock.monotonic()
            self._counters.calls += 1
            self._state.look_up_rates(target.model)  # meanwhile
            failure = await self._sender.send(
                target.model,
                request,
                ticket,
                lambda received: self._settler.arrived(item, target, plan, received, tokens),
                stream=streams,
            )
            if failure is not None and failure.usage is not None:
                await self._settler.charge(target.model, failure.usage, None, was_wanted=True)
            return failure
        finally:
            item.is_sent = False

    async def _prefill(self, item: Item, target: Target, plan: CachePlan, ticket: Admission) -> None:
        """Have the prefix written without an answer, for others wait for it. Where that fails, the item leads."""
        request = target.build_prefill(item.prompt, plan)
        self.check_open()
        started = self._state.clock.monotonic()
        ticket.sent()
        self._counters.calls += 1
        reply: HttpResponse | Reply | Failure = await self._sender.whole(target.model, request)
        ticket.done()
        if isinstance(reply, HttpResponse):
            reply = parse(target.model, reply, now=self._state.clock.time(), secrets=self._secrets)
        if isinstance(reply, Failure):
            if reply.status in _ASKS_FOR_A_PAUSE:
                self._settler.pause(target.model, reply.retry_after or BREATHER, reply.message)
            return
        ticket.began(started=started)
        if reply.usage is not None:
            self._state.limits.settle(item.prompt.count_tokens(), reply.usage.total_tokens)
            rates = await self._settler.charge(target.model, reply.usage, reply.service_tier, was_wanted=False)
            if rates is not None:
                self._counters.writes.add(plan.prefixes, reply.usage, rates, started=started, prompt=item.prompt)

    async def _build(self, item: Item, target: Target, plan: CachePlan, *, stream: bool) -> HttpRequest:
        if not self._state.pace.step():
            await self._state.pace.turn()
        # Built only now, so requests that wait for the limits hold no body. Encoding media takes a thread.
        if item.has_media:
            return await in_thread(lambda: target.build(item.prompt, plan, stream=stream))
        return target.build(item.prompt, plan, stream=stream)


def _no_key(model: Model) -> str:
    names = " or ".join(model.service.key_env)
    return f"There is no API key for {model.name!r}. Set {names}, or pass api_key= to LLMClient."


class Sender:
    """Sends requests, and tells their tickets how that went.

    Args:
        timeout: seconds for one call, from connecting to the last byte.
        secrets: what is sent and must not be repeated in an error.
    """

    def __init__(self, transport: Transport, clock: Clock, *, timeout: float, secrets: Secrets) -> None:
        self._transport = transport
        self._clock = clock
        self._timeout = timeout
        self._secrets = secrets

    async def send(
        self,
        model: Model,
        request: HttpRequest,
        ticket: Admission,
        arrived: Callable[[HttpResponse], None],
        *,
        stream: bool,
    ) -> Failure | None:
        """Get the provider's response, of any status. Returns why there is none.

        Args:
            model: which model is asked.
            request: what to send.
            ticket: told when the answer has begun, or that it will not.
            arrived: called with the response right after its last byte, before anything is awaited.
            stream: whether ``request`` asks for an answer in pieces. It is put together again.
        """
        started = self._clock.monotonic()
        ticket.sent()
        if stream:
            try:
                return await self._stream(model, request, ticket, arrived, started)
            except TransportError as error:
                ticket.failed()
                return self._no_answer(error)
        response = await self.whole(model, request)
        if isinstance(response, Failure):
            ticket.failed()
            return response
        arrived(response)
        if response.status == HTTPStatus.OK and response.body.lstrip()[:1] == b"{":
            ticket.began(started=started)
        else:
            ticket.failed()  # the page of a proxy is no answer, even with status 200
        return None

    async def whole(self, model: Model, request: HttpRequest) -> HttpResponse | Failure:
        """The provider's response, of any status, to a request that asks for no stream; or why there is none."""
        try:
            response = await self._transport.send(request, timeout=self._timeout)
        except TransportError as error:
            return self._no_answer(error)
        if response.status != HTTPStatus.OK:
            return response
        body = as_whole(model, response.body, secrets=self._secrets)
        if isinstance(body, Failure):
            return body
        return response if body is response.body else msgspec.structs.replace(response, body=body)

    def _no_answer(self, error: TransportError) -> Failure:
        message, retryable = self._secrets.hide(str(error)), isinstance(error, _WORTH_ANOTHER_TRY)
        return Failure(status=0, message=message, retryable=retryable)

    async def _stream(
        self,
        model: Model,
        request: HttpRequest,
        ticket: Admission,
        arrived: Callable[[HttpResponse], None],
        started: float,
    ) -> Failure | None:
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._transport.stream(request, timeout=self._timeout) as response,
            ):
                if response.status != HTTPStatus.OK:
                    ticket.failed()
                    body = await response.read()
                    arrived(HttpResponse(status=response.status, headers=response.headers, body=body))
                    return None
                reader = StreamReader(model, secrets=self._secrets)
                async for chunk in response.chunks:
                    reader.feed(chunk)
                    if reader.has_begun:  # and not only a comment that keeps the connection open
                        ticket.began(started=started)
                outcome = reader.result()
                if isinstance(outcome, Failure):
                    ticket.failed()
                    return outcome
                arrived(HttpResponse(status=response.status, headers=response.headers, body=reader.body()))
                ticket.began(started=started)  # where it came at once, only now
                return None
        except TimeoutError as error:
            if isinstance(error, TransportError):
                raise
            raise RequestTimeout(
                f"{host_of(request)} did not complete its answer within {self._timeout:g} s. Raise request_timeout, or "
                "ask for a shorter answer."
            ) from error
