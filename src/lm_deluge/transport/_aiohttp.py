"""The transport over aiohttp (extra ``aiohttp``): slower than the default, and the client that most people know.

It fails in the same words as the other one and passes the same tests.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from lm_deluge._optional import require
from lm_deluge._version import __version__
from lm_deluge.errors import LMDelugeError, TransportError
from lm_deluge.transport._base import IDLE, LONGEST, BaseTransport, Settings, checked_limit
from lm_deluge.transport._framing import UnreadableError, is_compressed
from lm_deluge.transport._headers import ResponseHeaders
from lm_deluge.transport._per_loop import when_loop_ends
from lm_deluge.transport._protocol import StreamedResponse
from lm_deluge.transport._target import OURS, checked_target
from lm_deluge.transport._tls import LoopContext
from lm_deluge.transport._words import (
    dropped,
    no_connection,
    not_http,
    silent,
    too_large,
    transport_closed,
    unfinished,
)
from lm_deluge.wire import HttpRequest, HttpResponse, host_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

__all__ = ["AiohttpTransport"]

T = TypeVar("T")


class AiohttpTransport(BaseTransport["_Session"]):
    """HTTP/1.1 over aiohttp, with TLS always verified. Behaves as :class:`AsyncioTransport` does.

    Args:
        settings: those of :class:`AsyncioTransport`.

    Raises:
        ConfigError: a setting has no meaning, or ``ca_file`` cannot be read.
        ImportError: aiohttp is missing.
    """

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:  # noqa: ASYNC109 (its contract)
        """Send a request and read the answer to its end. See :meth:`Transport.send`."""
        limit = checked_limit(timeout)
        session = self._pools.current()
        late = unfinished(host_of(request), limit)
        exchange = session.loop.create_task(self._within(limit, self._whole(session, request), request, session, late))
        exchange.add_done_callback(_ended)
        try:
            return await asyncio.shield(exchange)
        except asyncio.CancelledError:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            if exchange.done() and not exchange.cancelled() and exchange.exception() is None:
                return exchange.result()  # its last byte had come, so it is paid for
            raise
        finally:
            exchange.cancel()

    @asynccontextmanager
    async def stream(self, request: HttpRequest, *, timeout: float) -> "AsyncIterator[StreamedResponse]":  # noqa: ASYNC109
        """Send a request and hand over its answer while it arrives. See :meth:`Transport.stream`."""
        limit = checked_limit(timeout)
        session = self._pools.current()
        ends = session.loop.time() + LONGEST
        late = silent(host_of(request), limit)
        response = await self._within(limit, self._opened(session, request), request, session, late)
        try:
            _check(response, request)
            yield StreamedResponse(
                status=response.status,
                headers=ResponseHeaders(response.raw_headers),
                chunks=self._chunks(response, request, session, limit, ends),
            )
        finally:
            response.close()

    @staticmethod
    def _require() -> None:
        require("aiohttp", extra="aiohttp", purpose="AiohttpTransport")

    @staticmethod
    def _make_pool(settings: Settings, loop: asyncio.AbstractEventLoop) -> "_Session":
        return _Session(loop, settings)

    async def _whole(self, session: "_Session", request: HttpRequest) -> HttpResponse:
        async with await self._opened(session, request) as response:
            _check(response, request)
            body = b"".join([piece async for piece in self._pieces(response, request)])
        return HttpResponse(status=response.status, headers=ResponseHeaders(response.raw_headers), body=body)

    async def _opened(self, session: "_Session", request: HttpRequest) -> "aiohttp.ClientResponse":
        """The answer, as far as its head."""
        target = checked_target(request)
        proxy = self._settings.proxies.choose(target.origin)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in OURS}
        headers.setdefault("user-agent", f"lm_deluge/{__version__}")
        headers["accept-encoding"] = "gzip"
        if target.authorization is not None:
            headers.setdefault("authorization", target.authorization)
        tls = target.origin.scheme == "https" or (proxy is not None and proxy.origin.scheme == "https")
        context = await session.tls.get() if tls else None
        from yarl import URL  # what aiohttp's own URLs are

        return await session.get().request(
            request.method,
            URL(f"{target.origin.scheme}://{target.authority}{target.path}", encoded=True),
            data=request.body or None,
            headers=headers,
            allow_redirects=False,
            proxy=None if proxy is None else proxy.url,
            ssl=True if context is None else context,
        )

    async def _pieces(self, response: "aiohttp.ClientResponse", request: HttpRequest) -> AsyncGenerator[bytes]:
        size = 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > self._settings.max_body_bytes:
                response.close()
                raise too_large(host_of(request), self._settings.max_body_bytes)
            yield piece

    async def _chunks(
        self, response: "aiohttp.ClientResponse", request: HttpRequest, session: "_Session", limit: float, ends: float
    ) -> "AsyncIterator[bytes]":
        pieces, late = self._pieces(response, request), silent(host_of(request), limit)
        while True:
            left = min(limit, max(ends - session.loop.time(), 0.0))
            piece = await self._within(left, anext(pieces, None), request, session, late)
            if piece is None:
                return
            yield piece

    async def _within(
        self, limit: float, step: Awaitable[T], request: HttpRequest, session: "_Session", late: TransportError
    ) -> T:
        """What a step gives, or the failure that it means: ``late`` after ``limit`` seconds."""
        within = asyncio.timeout(limit)
        try:
            async with within:
                return await step
        except LMDelugeError:
            raise
        except _errors() as error:  # a TimeoutError is an OSError
            failed = late if within.expired() else self._failure(error, request, session)
        raise failed from None

    def _failure(self, error: BaseException, request: HttpRequest, session: "_Session") -> LMDelugeError:
        import aiohttp

        host = host_of(request)
        through_proxy = isinstance(error, aiohttp.ClientProxyConnectionError)
        match error:
            case aiohttp.ConnectionTimeoutError():
                return no_connection(host, f"timed out after {self._settings.connect_timeout:g} s")
            case aiohttp.ClientConnectorCertificateError():
                return no_connection(host, error.certificate_error)
            case aiohttp.ClientConnectorError():
                return no_connection(host, error.os_error, through_proxy=through_proxy)
            case aiohttp.ClientHttpProxyError():
                return no_connection(host, f"its proxy refused with status {error.status}", through_proxy=True)
            case _ if session.is_closed:
                return transport_closed(host)
            case aiohttp.ClientResponseError():
                return not_http(host, _reason(error))
            case aiohttp.ClientPayloadError() if reason := _malformed(error):
                return not_http(host, reason)
            case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
                return dropped(host, None)
            case OSError():
                return dropped(host, error)
        return TransportError(f"The request to {host} failed: {type(error).__name__}. Try again.")


# Passes of the loop that an exchange needs after its last byte, which a cancellation may cross.
_TURNS = 3


class _Session:
    """aiohttp's session for one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
        self.loop = loop
        self.tls = LoopContext(loop, settings.trust)
        self._connect_timeout = settings.connect_timeout
        self.is_closed = False
        self._session: aiohttp.ClientSession | None = None
        self._guard: AsyncGenerator[None] | None = None

    def get(self) -> "aiohttp.ClientSession":
        """The session, opened if need be."""
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=_connector(),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_timeout),
                trust_env=False,
            )
            self.is_closed = False
            self._guard = when_loop_ends(self._session.close)
        return self._session

    def close(self) -> None:
        guard, self._guard, self._session = self._guard, None, None
        self.is_closed = True
        if guard is not None:
            self._closing = self.loop.create_task(guard.aclose())


def _connector() -> "aiohttp.TCPConnector":
    """aiohttp's pool of connections without three of its faults: it takes an answer that came while a connection was
    idle for that to the next request, it loses an answer if something that is not HTTP came with it in one packet, and
    it waits for the rest of a body that is malformed.
    """
    import aiohttp
    from aiohttp.client_proto import ResponseHandler

    class Protocol(ResponseHandler):
        def data_received(self, data: bytes) -> None:
            body = data.find(b"\r\n\r\n") + 4
            if 3 < body < len(data):
                super().data_received(data[:body])  # it is kept even if the rest is not HTTP
                data = data[body:]
            super().data_received(data)
            failure, payload = self.exception(), self._payload
            if failure is not None and payload is not None and not payload.is_eof():
                malformed = aiohttp.ClientPayloadError()
                malformed.__cause__ = failure
                payload.set_exception(malformed, failure)

    class Connector(aiohttp.TCPConnector):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self._factory = functools.partial(Protocol, loop=self._loop)  # type: ignore[assignment]

        async def connect(self, *arguments: Any, **options: Any) -> aiohttp.connector.Connection:
            while True:
                connection = await super().connect(*arguments, **options)
                if connection.protocol is None or not connection.protocol.should_close:
                    return connection
                connection.close()

    return Connector(limit=0, keepalive_timeout=IDLE)


def _check(response: "aiohttp.ClientResponse", request: HttpRequest) -> None:
    """Refuse an answer whose end could not be seen."""
    failed = None
    try:
        is_compressed(response.status, response.raw_headers)
    except UnreadableError as error:
        failed = not_http(host_of(request), str(error))
    if failed is not None:
        response.close()
        raise failed


def _ended(exchange: "asyncio.Task[HttpResponse]") -> None:
    """The one that waited may have gone: a failure is read here, so that asyncio does not report it."""
    if not exchange.cancelled():
        exchange.exception()


def _errors() -> tuple[type[BaseException], ...]:
    import aiohttp

    return (aiohttp.ClientError, OSError, ValueError)


def _malformed(error: "aiohttp.ClientPayloadError") -> str | None:
    """What is wrong with a body; None if it only ends too early."""
    from aiohttp.http_exceptions import ContentLengthError, HttpProcessingError

    cause = error.__cause__ or error.__context__
    if not isinstance(cause, HttpProcessingError) or isinstance(cause, ContentLengthError):
        return None
    return None if "Not enough data" in str(cause) else _reason(cause)


def _reason(error: BaseException) -> str:
    message = str(getattr(error, "message", "")).splitlines()
    return message[0].rstrip(".:") if message and message[0] else "it cannot be read"
