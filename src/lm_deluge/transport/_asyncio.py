"""The transport the engine uses: HTTP/1.1 over the event loop's own connections."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lm_deluge.errors import ConfigError
from lm_deluge.transport._headers import ResponseHeaders
from lm_deluge.transport._per_loop import PerLoop
from lm_deluge.transport._protocol import StreamedResponse
from lm_deluge.transport._proxies import Proxies, checked_proxy, proxies
from lm_deluge.transport._target import Target, encode, ended, target_of
from lm_deluge.transport._tls import Trust
from lm_deluge.transport._words import refused_request, silent, unfinished
from lm_deluge.wire import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lm_deluge.errors import TransportError
    from lm_deluge.transport._connection import Exchange
    from lm_deluge.transport._pool import Pool

__all__ = ["AsyncioTransport"]

_LONGEST = 3600.0


class AsyncioTransport:
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

    def __init__(
        self,
        *,
        proxy: str | None = None,
        trust_env: bool = True,
        ca_file: str | Path | None = None,
        connect_timeout: float = 10.0,
        max_body_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        if max_body_bytes < 1:
            raise ConfigError(f"max_body_bytes is {max_body_bytes}; it has to be at least 1.")
        self._proxy = proxy if proxy is None else checked_proxy(proxy)
        self._trust_env = trust_env
        self._connect_timeout = checked_limit(connect_timeout)
        self._max_body_bytes = max_body_bytes
        self._trust = Trust(ca_file)
        self._proxies: Proxies | None = None
        self._pools: PerLoop[Pool] = PerLoop(self._make_pool)
        self._last: tuple[object, tuple[Target, bytes] | None] = (None, None)

    def __repr__(self) -> str:
        proxy = "" if self._proxy is None else f"proxy={urlsplit(self._proxy).hostname!r}, "
        return f"AsyncioTransport({proxy}max_body_bytes={self._max_body_bytes})"

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:  # noqa: ASYNC109 (its contract)
        """Send a request and read the answer to its end. See :meth:`Transport.send`."""
        limit = checked_limit(timeout)
        pool = self._pools.current()
        target, head = self._prepared(request, pool)
        exchange = pool.exchange(target.origin, limit=self._max_body_bytes, streamed=False)
        connection = pool.from_idle(target.origin)
        if connection is None:
            started = pool.loop.time()
            try:
                async with asyncio.timeout(limit):
                    connection = await pool.take(target.origin)
            except TimeoutError:
                pass
            if connection is None:
                raise unfinished(target.origin.label, limit)
            left = max(limit - (pool.loop.time() - started), 0.0)
        else:
            left = limit
        # A timer of its own costs half of what asyncio.timeout() does.
        timer = pool.loop.call_later(left, _expire, exchange, limit)
        try:
            connection.send(head, request.body, exchange)
            body = await exchange.body()
        except asyncio.CancelledError:
            if not exchange.complete:
                raise
            # Its last byte has come, so it is paid for. Whoever awaits this is still told of the cancellation, by
            # Task.cancelling().
            body = exchange.whole()
        finally:
            timer.cancel()
            pool.give_back(target.origin, connection)
        return HttpResponse(status=exchange.status, headers=ResponseHeaders(exchange.fields), body=body)

    @asynccontextmanager
    async def stream(self, request: HttpRequest, *, timeout: float) -> "AsyncIterator[StreamedResponse]":  # noqa: ASYNC109
        """Send a request and hand over its answer while it arrives. See :meth:`Transport.stream`."""
        limit = checked_limit(timeout)
        pool = self._pools.current()
        target, head = self._prepared(request, pool)
        exchange = pool.exchange(target.origin, limit=self._max_body_bytes, streamed=True)
        ends = pool.loop.time() + _LONGEST
        connection = None
        try:
            try:
                async with asyncio.timeout(limit):
                    connection = await pool.take(target.origin)
                    connection.send(head, request.body, exchange)
                    await exchange.head()
                failed = None
            except TimeoutError:
                failed = silent(target.origin.label, limit)
            if failed is not None:
                raise failed
            yield StreamedResponse(
                status=exchange.status,
                headers=ResponseHeaders(exchange.fields),
                chunks=_chunks(exchange, limit, ends),
            )
        finally:
            if connection is not None:
                pool.give_back(target.origin, connection)

    async def aclose(self) -> None:
        """Close the connections. Requests in flight fail; a later request opens new ones."""
        self._pools.close()

    def _prepared(self, request: HttpRequest, pool: "Pool") -> tuple[Target, bytes]:
        """Where a request goes, and its head. Requests in a row differ in their bodies alone, most of the time."""
        key = (request.method, request.url, tuple(request.headers.items()))
        known, prepared = self._last
        if prepared is None or known != key:
            prepared = None
            try:
                target = target_of(request.url)
                proxy = pool.dialler.proxy_for(target.origin) if target.origin.scheme == "http" else None
                prepared = target, encode(request, target, to_proxy=None if proxy is None else proxy.lines)
            except ConfigError:
                raise
            except ValueError:
                pass
            if prepared is None:
                raise refused_request(request)  # outside the handler: the original may quote a value
            self._last = key, prepared
        target, head = prepared
        return target, ended(head, request)

    def _make_pool(self, loop: asyncio.AbstractEventLoop) -> "Pool":
        from lm_deluge.transport._dial import Dialler  # only now: importing this package brings no HTTP
        from lm_deluge.transport._pool import Pool

        if self._proxies is None:
            self._proxies = proxies(self._proxy, trust_env=self._trust_env)
        dialler = Dialler(
            loop, make_context=self._trust.context, proxies=self._proxies, connect_timeout=self._connect_timeout
        )
        return Pool(loop, dialler)


def checked_limit(seconds: float) -> float:
    """A time limit, of an hour at most.

    Raises:
        ConfigError: it is not above 0.
    """
    if not seconds > 0:
        raise ConfigError(f"A time limit of {seconds} s has no meaning; it has to be above 0.")
    return min(seconds, _LONGEST)


def _expire(exchange: "Exchange", limit: float) -> None:
    exchange.fail(unfinished(exchange.host, limit))  # and so its connection is not given back, but closed


async def _chunks(exchange: "Exchange", limit: float, ends: float) -> "AsyncIterator[bytes]":
    loop = asyncio.get_running_loop()
    while True:
        failed: TransportError | None = None
        piece = None
        try:
            async with asyncio.timeout(min(limit, max(ends - loop.time(), 0))):
                piece = await exchange.piece()
        except TimeoutError:
            failed = silent(exchange.host, limit)
        if failed is not None:
            raise failed
        if piece is None:
            return
        yield piece
