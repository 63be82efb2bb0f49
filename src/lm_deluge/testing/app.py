"""The emulator as an ASGI application: reads a request, applies what the test scripted, sends the answer.

Plain ASGI, without a framework: three fixed paths need no routing, and the loop below is most of what a request costs.
"""

import asyncio
import itertools
import os
from collections import deque
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from lm_deluge._clock import Clock, SystemClock
from lm_deluge.testing.answers import default_answer, finished
from lm_deluge.testing.anthropic_messages import CountTokensEndpoint, MessagesEndpoint
from lm_deluge.testing.bill import Charge, make_bill
from lm_deluge.testing.decoding import Rejection
from lm_deluge.testing.exchange import Endpoint, Exchange
from lm_deluge.testing.faults import Fault, as_rejection
from lm_deluge.testing.media import fetch_loopback
from lm_deluge.testing.openai_chat import ChatCompletionsEndpoint
from lm_deluge.testing.origins import is_welcome
from lm_deluge.testing.stats import Limits, Stats
from lm_deluge.testing.values import CacheOutcome, ParsedRequest, RecordedRequest, Responder

if TYPE_CHECKING:
    from lm_deluge.testing.gate import Gate

__all__ = ["CONNECTION", "EmulatorApp"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

CONNECTION = "lm_deluge.connection"
"""The key in a scope's ``extensions`` under which a server hands over its ``asyncio.Transport``, for ``Fault.drop``."""

_CREDENTIALS = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization", "api-key"})
_JSON = (b"content-type", b"application/json")
_SSE = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_ALL_REQUESTS = 1_000_000
_NOT_WELCOME = b'{"error":{"message":"The emulator answers programs and its own address, not other web pages."}}'


class EmulatorApp:
    """The ASGI application behind ``Emulator``; the arguments are described there.

    Args:
        hosts: names under which its counters are asked for, beside addresses and ``localhost``.
    """

    def __init__(
        self,
        *,
        latency: float | Callable[[ParsedRequest], float] = 0.0,
        responder: Responder | None = None,
        faults: Callable[[ParsedRequest], Fault | None] | None = None,
        models: Collection[str] | None = None,
        clock: Clock | None = None,
        record: bool = True,
        record_limit: int = 10_000,
        hosts: Collection[str] = (),
    ) -> None:
        self.clock = clock or SystemClock()
        self.latency = latency
        self.responder = responder
        self.faults = faults
        self.script: deque[Fault | None] = deque()
        self.gate: Gate | None = None
        self.stats = Stats()
        self.charges: dict[Charge, int] = {}
        self.records: deque[RecordedRequest] = deque(maxlen=record_limit)
        self.closing = asyncio.Event()
        self._record = record
        self._hosts = frozenset(host.lower().removesuffix(".") for host in hosts)
        self._limits = Limits(self.clock)
        self._run = os.urandom(4).hex()
        self._numbers = itertools.count(1)
        endpoints: list[Endpoint] = [
            MessagesEndpoint(names=models),
            CountTokensEndpoint(names=models),
            ChatCompletionsEndpoint(time=self.clock.time, names=models),
        ]
        self._endpoints = {endpoint.path: endpoint for endpoint in endpoints}

    def reset(self) -> None:
        """Forget counters, records, scripted faults and the simulated prompt caches."""
        self.stats = Stats(in_flight=self.stats.in_flight, max_in_flight=self.stats.in_flight)
        self.charges.clear()
        self.records.clear()
        self.script.clear()
        for endpoint in self._endpoints.values():
            endpoint.clear()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        endpoint = self._endpoints.get(path)
        if not is_welcome(scope["headers"], names=self._hosts, control=endpoint is None):
            await _send(send, 403, [_JSON], _NOT_WELCOME)
        elif endpoint is not None and method == "POST":
            await self._serve(endpoint, scope, receive, send)
        elif path in ("/", "/_emulator/stats") and method == "GET":
            await _send(send, 200, [_JSON], await self._accounts())
        elif path == "/_emulator/reset" and method == "POST":
            self.reset()
            await _send(send, 200, [_JSON], b"{}")
        else:
            await self._no_such_path(scope, send)

    def snapshot(self) -> Stats:
        """A copy of all counters."""
        return msgspec.structs.replace(self.stats, statuses=dict(self.stats.statuses))

    async def _accounts(self) -> bytes:
        """The counters and the bill as JSON. Pricing takes its time, so answers go on meanwhile."""
        counters = msgspec.structs.asdict(self.snapshot())
        return msgspec.json.encode({**counters, "bill": await asyncio.to_thread(make_bill, self.charges.copy())})

    async def _no_such_path(self, scope: Message, send: Send) -> None:
        path = scope["path"]
        status = 405 if path in self._endpoints else 404
        like = "/v1/messages" if path.startswith("/v1/messages") else "/v1/chat/completions"
        rejection = Rejection(f"Invalid URL ({scope['method']} {path})", status=status)
        body = self._endpoints[like].error(rejection, "req_unknown")
        await _send(send, status, [_JSON], body)

    async def _serve(self, endpoint: Endpoint, scope: Message, receive: Receive, send: Send) -> None:
        stats = self.stats
        if endpoint.generates:
            stats.calls += 1
            stats.in_flight += 1
            stats.max_in_flight = max(stats.max_in_flight, stats.in_flight)
        else:
            stats.count_calls += 1
        call = _Call(self, endpoint, scope, receive, send)
        try:
            await call.run()
        finally:
            if endpoint.generates:
                self.stats.in_flight -= 1
            if call.status is None:
                self.note(0, call)

    def charge(self, charge: Charge) -> None:
        """Put one generation on the bill."""
        self.stats.add(charge)
        self.charges[charge] = self.charges.get(charge, 0) + 1

    def note(self, status: int, call: "_Call") -> None:
        """Count and record a request. Called just before its answer is sent, so that who has the answer finds it."""
        call.status = status
        self.stats.statuses[status] = self.stats.statuses.get(status, 0) + 1
        if self._record:
            self.records.append(call.recorded(status))

    def next_identity(self) -> str:
        """Unique to a request, across emulators too."""
        return f"{self._run}{next(self._numbers):08d}"

    def next_fault(self, request: ParsedRequest, *, generates: bool) -> Fault | None:
        """The scripted fault for a valid request: the queue is for generations, the callable sees every request."""
        if generates and self.script:
            return self.script.popleft()
        return self.faults(request) if self.faults is not None else None

    def limit_headers(self, endpoint: Endpoint, request_id: str, *, exhausted: bool = False) -> Headers:
        self._limits.requests_used = _ALL_REQUESTS if exhausted else self.stats.in_flight
        return endpoint.headers(request_id, self._limits)


class _Call:
    """One HTTP request to a model endpoint, from its first byte to the end of its answer."""

    def __init__(self, app: EmulatorApp, endpoint: Endpoint, scope: Message, receive: Receive, send: Send) -> None:
        self._app = app
        self._endpoint = endpoint
        self._scope = scope
        self._receive = receive
        self._send = send
        self._headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._body = b""
        self._identity = app.next_identity()
        self._request_id = f"req_{self._identity}"
        self._fault: Fault | None = None
        self._outcome: CacheOutcome | None = None
        self._charge: Charge | None = None
        self.status: int | None = None

    def recorded(self, status: int) -> RecordedRequest:
        return RecordedRequest(
            path=self._endpoint.path,
            headers={name: value for name, value in self._headers.items() if name not in _CREDENTIALS},
            body=self._body,
            status=status,
            cache=self._outcome if status == 200 else None,
            charge=self._charge,
            fault=self._fault.kind if self._fault is not None else None,
        )

    async def run(self) -> None:
        if not await self._read_body():
            return
        try:
            exchange = await self._accept()
            self._outcome = exchange.look_up(self._app.clock.time())
            self._fault = self._app.next_fault(exchange.request, generates=self._endpoint.generates)
            if not await self._wait(exchange.request):
                return
            if self._fault is None:
                await self._answer(exchange)
            else:
                await self._fail(self._fault, exchange)
        except Rejection as rejection:
            await self._reject(rejection)

    async def _read_body(self) -> bool:
        chunks = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return False
            chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                self._body = b"".join(chunks)
                return True

    async def _accept(self) -> Exchange:
        credential = self._endpoint.credential(self._headers)
        exchange = self._endpoint.accept(self._headers, self._body, credential=credential, identity=self._identity)
        for url in exchange.urls:
            if (problem := await fetch_loopback(url)) is not None:
                raise self._endpoint.download_failed(url, problem)
        return exchange

    async def _wait(self, request: ParsedRequest) -> bool:
        """Latency and the gate. False when the client left, or the emulator stops, before the time was up."""
        app = self._app
        latency = app.latency(request) if callable(app.latency) else app.latency
        if latency > 0 and not await self._unless_over(app.clock.sleep(latency)):
            return False
        if app.gate is not None and self._endpoint.generates:
            return await self._unless_over(app.gate.enter())
        return True

    async def _unless_over(self, waiting: "Awaitable[Any] | None" = None) -> bool:
        """Wait for ``waiting``, but no longer than the client does."""
        over = {asyncio.ensure_future(self._left()), asyncio.ensure_future(self._app.closing.wait())}
        wanted = set() if waiting is None else {asyncio.ensure_future(waiting)}
        done, pending = await asyncio.wait(over | wanted, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return bool(done & wanted)

    async def _left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _fail(self, fault: Fault, exchange: Exchange) -> None:
        """Apply a fault in place of the answer."""
        provider = exchange.request.provider
        match fault.kind:
            case "error":
                raise as_rejection(fault, provider)
            case "raw":
                headers = [(name.lower().encode(), value.encode()) for name, value in fault.headers]
                await self._reply(fault.status, headers, fault.body)
            case "hang":
                await self._unless_over()
            case "drop" if fault.after_bytes is None:
                await self._disconnect(abort=True)
            case "error_mid_stream" if not exchange.request.stream:
                raise as_rejection(fault, provider)
            case _:
                await self._spoil(fault, exchange)

    async def _spoil(self, fault: Fault, exchange: Exchange) -> None:
        """An answer that begins well: its cache entries become readable, and what follows is broken."""
        events, body = self._render(exchange)
        kind = "cut_body" if fault.kind == "truncated_stream" and not events else fault.kind
        headers = self._answer_headers(_SSE if events else [_JSON])
        whole, begun = b"".join(events) if events else body, events[: max(1, len(events) // 2)]
        match kind:
            case "drop":
                await self._begin(200, headers if events else [*headers, (b"content-length", b"%d" % len(whole))])
                part = whole[: fault.after_bytes]
                await self._send({"type": "http.response.body", "body": part, "more_body": True})
                await self._disconnect(abort=False)
            case "invalid_json":
                broken = b"event: message_start\ndata: {not json\n\n" if events else b"<html>not json</html>"
                await self._reply(200, headers, broken)
            case "truncated_stream":
                await self._stream(headers, begun)
            case "error_mid_stream":
                error = self._endpoint.error_event(as_rejection(fault, exchange.request.provider), self._request_id)
                await self._stream(headers, [*begun, error])
            case _:
                await self._reply(200, headers, whole[: len(whole) // 2])

    async def _answer(self, exchange: Exchange) -> None:
        events, body = self._render(exchange)
        if events:
            await self._stream(self._answer_headers(_SSE), events)
        else:
            await self._reply(200, self._answer_headers([_JSON]), body)

    def _answer_headers(self, content: Headers) -> Headers:
        headers = [*content, *self._app.limit_headers(self._endpoint, self._request_id)]
        if self._endpoint.generates and self._outcome is not None:
            headers.append((b"x-emulator-cache", self._outcome.header))
        return headers

    def _render(self, exchange: Exchange) -> tuple[list[bytes], bytes]:
        """The answer as (events, body), one of them empty; from here on its cache entries can be read."""
        request, responder = exchange.request, self._app.responder
        answers = []
        for choice in range(exchange.choices):
            answer = (
                default_answer(request, exchange.digest, choice=choice) if responder is None else responder(request)
            )
            answers.append(finished(answer, request, thinks=exchange.thinks))
        exchange.publish()
        if self._endpoint.generates and self._outcome is not None:
            self._charge = Charge(
                provider=request.provider,
                model=request.model,
                served=exchange.served,
                uncached=self._outcome.uncached,
                read=self._outcome.read,
                write_5m=self._outcome.write_5m,
                write_1h=self._outcome.write_1h,
                output=sum(each.output_tokens for each in answers),
            )
            self._app.charge(self._charge)
        return (exchange.events(answers), b"") if request.stream else ([], exchange.body(answers))

    async def _reject(self, rejection: Rejection) -> None:
        exhausted = rejection.status == 429
        headers = self._app.limit_headers(self._endpoint, self._request_id, exhausted=exhausted)
        body = self._endpoint.error(rejection, self._request_id)
        await self._reply(rejection.status, [_JSON, *headers, *rejection.headers], body)

    async def _reply(self, status: int, headers: Headers, body: bytes) -> None:
        self._app.note(status, self)
        await _send(self._send, status, headers, body)

    async def _begin(self, status: int, headers: Headers) -> None:
        self._app.note(status, self)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _stream(self, headers: Headers, events: list[bytes]) -> None:
        await self._begin(200, headers)
        for event in events:
            await self._send({"type": "http.response.body", "body": event, "more_body": True})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _disconnect(self, *, abort: bool) -> None:
        transport = self._scope.get("extensions", {}).get(CONNECTION)
        if transport is not None:  # otherwise another server than ours: an unfinished answer is the nearest thing
            (transport.abort if abort else transport.close)()
            await self._left()


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
