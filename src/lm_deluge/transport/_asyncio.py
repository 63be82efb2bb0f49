"""The transport the engine uses: HTTP/1.1 over the event loop's own connections."""

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from lm_deluge.transport._base import LONGEST, BaseTransport, Settings, checked_limit
from lm_deluge.transport._headers import ResponseHeaders
from lm_deluge.transport._protocol import StreamedResponse
from lm_deluge.transport._target import Target, checked_target, encode, ended
from lm_deluge.transport._words import silent, unfinished
from lm_deluge.wire import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lm_deluge.transport._connection import Connection, Exchange
    from lm_deluge.transport._pool import Pool

__all__ = ["AsyncioTransport"]


class AsyncioTransport(BaseTransport["Pool"]):
    """HTTP/1.1 over a pool of connections, with TLS always verified.

    One transport serves any number of event loops, one after the other or in several threads, and forked processes;
    each loop has connections of its own. Nothing is opened before the first request. A request that is cancelled, or
    whose time is over, closes its connection at once.

    Redirects are returned, not followed, so a credential never travels to another host. No cookie is kept. An idle
    connection is closed after a minute. How many requests run at once is the caller's affair. No request that the
    server has read is sent twice: a connection that the server closed while it was idle is replaced, but where the
    close crosses a request on its way, that request ends with ``ConnectionDropped``.

    Args:
        proxy: ``"http://[user:password@]host:port"`` for all requests. By default the environment decides:
            ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, as they are at the first request.
        trust_env: False leaves those variables unread.
        ca_file: PEM file with certificates to trust besides the system's. By default ``SSL_CERT_FILE``, if set,
            stands in for the system's certificates.
        connect_timeout: seconds for name look-up, TCP and TLS together, within a request's own limit.
        max_body_bytes: the largest body that is read, after decompression. 64 MiB by default.

    Raises:
        ConfigError: a setting has no meaning, or ``ca_file`` cannot be read.
    """

    _last: tuple[object, Target | None, bytes] = (None, None, b"")

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:  # noqa: ASYNC109 (its contract)
        """Send a request and read the answer to its end. See :meth:`Transport.send`."""
        limit = checked_limit(timeout)
        pool = self._pools.current()
        target, head = self._prepared(request)
        exchange = pool.exchange(target.origin, limit=self._settings.max_body_bytes, streamed=False)
        connection = None
        pool.deadlines.begin(exchange, limit)
        try:
            connection = pool.from_idle(target.origin) or await self._connected(pool, target, limit)
            connection.send(head, request.body, exchange)
            body = await exchange.body()
        except asyncio.CancelledError:
            if not exchange.complete:
                raise
            # Its last byte has come, so it is paid for. The caller still learns of the cancellation, by
            # Task.cancelling().
            body = exchange.whole()
        finally:
            pool.deadlines.end(exchange, limit)
            if connection is not None:
                pool.give_back(target.origin, connection)
        return HttpResponse(status=exchange.status, headers=ResponseHeaders(exchange.fields), body=body)

    @asynccontextmanager
    async def stream(self, request: HttpRequest, *, timeout: float) -> "AsyncIterator[StreamedResponse]":  # noqa: ASYNC109
        """Send a request and hand over its answer while it arrives. See :meth:`Transport.stream`."""
        limit = checked_limit(timeout)
        pool = self._pools.current()
        target, head = self._prepared(request)
        exchange = pool.exchange(target.origin, limit=self._settings.max_body_bytes, streamed=True)
        ends = pool.loop.time() + LONGEST
        connection = None
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    connection = await pool.take(target.origin)
                    connection.send(head, request.body, exchange)
                    await exchange.head()
            if not exchange.status:
                raise silent(target.origin.label, limit)
            yield StreamedResponse(
                status=exchange.status,
                headers=ResponseHeaders(exchange.fields),
                chunks=_chunks(exchange, limit, ends),
            )
        finally:
            if connection is not None:
                pool.give_back(target.origin, connection)

    async def _connected(self, pool: "Pool", target: Target, limit: float) -> "Connection":
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                return await pool.take(target.origin)
        raise unfinished(target.origin.label, limit)

    def _prepared(self, request: HttpRequest) -> tuple[Target, bytes]:
        """Where a request goes, and its head. Requests in a row differ in their bodies alone, most of the time."""
        key = (request.method, request.url, tuple(request.headers.items()))
        known, target, head = self._last
        if target is None or known != key:
            target = checked_target(request)
            proxy = self._settings.proxies.choose(target.origin) if target.origin.scheme == "http" else None
            head = encode(request, target, to_proxy=None if proxy is None else proxy.lines)
            self._last = key, target, head
        return target, ended(head, request)

    @staticmethod
    def _make_pool(settings: Settings, loop: asyncio.AbstractEventLoop) -> "Pool":
        from lm_deluge.transport._dial import Dialler  # only now: importing this package brings no HTTP
        from lm_deluge.transport._pool import Pool

        return Pool(loop, Dialler(loop, settings))


async def _chunks(exchange: "Exchange", limit: float, ends: float) -> "AsyncIterator[bytes]":
    loop = asyncio.get_running_loop()
    while True:
        try:
            async with asyncio.timeout(min(limit, max(ends - loop.time(), 0))):
                piece = await exchange.piece()
        except TimeoutError:
            break
        if piece is None:
            return
        yield piece
    raise silent(exchange.host, limit)
