"""The transport the engine uses, over pyreqwest (Rust's reqwest, hyper and rustls)."""

import asyncio
import functools
import os
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from lm_deluge._version import __version__
from lm_deluge.errors import ConfigError, LMDelugeError, RequestTimeout, TransportError
from lm_deluge.transport._client import LazyClient
from lm_deluge.transport._failures import failure, host_of, refused_request
from lm_deluge.transport._headers import ResponseHeaders
from lm_deluge.transport._protocol import StreamedResponse
from lm_deluge.wire import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Sequence

    from pyreqwest.client import Client, ClientBuilder
    from pyreqwest.exceptions import PyreqwestError
    from pyreqwest.request import RequestBuilder
    from pyreqwest.response import ResponseBodyReader

T = TypeVar("T")

__all__ = ["PyreqwestTransport"]

# Read in pieces of this size. It bounds what a false content-length makes the reader allocate, and holds a usual
# answer whole, so that reading it takes one step.
_PIECE = 256 * 1024

# A cancelled request is withdrawn by this timer alone, so that every request needs one.
_LONGEST = timedelta(hours=1)


class PyreqwestTransport:
    """HTTP/1.1 over a pool of connections, with TLS always verified.

    One transport serves any number of event loops, one after the other or in several threads; connections are shared
    between them. Nothing is imported or opened before the first request. A process forked after the first request
    cannot make any: it gets a :class:`~lm_deluge.errors.ConfigError` that says to spawn it instead.

    Redirects are returned, not followed, so a credential never travels to another host. No cookie is kept. An idle
    connection is closed after a minute. How many requests run at once is the caller's affair. No request that the
    server has read is sent twice: a connection that the server closed while it was idle is replaced, but where the
    close crosses a request on its way, that request ends with ``ConnectionDropped``.

    Cancelling a task returns at once. If the answer had not begun, its connection is held until the request's own time
    limit, because pyreqwest cannot withdraw a request; afterwards it is closed.

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
        self._proxy = proxy if proxy is None else _checked_proxy(proxy)
        self._max_body_bytes = max_body_bytes
        self._client = LazyClient(
            functools.partial(
                _configure,
                proxy=self._proxy,
                trust_env=trust_env,
                certificates=() if ca_file is None else _read_certificates(Path(ca_file)),
                connect_timeout=_duration(connect_timeout),
            )
        )

    def __repr__(self) -> str:
        proxy = "" if self._proxy is None else f"proxy={urlsplit(self._proxy).hostname!r}, "
        return f"PyreqwestTransport({proxy}max_body_bytes={self._max_body_bytes})"

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:  # noqa: ASYNC109 (native timer)
        """Send a request and read the answer to its end. See :meth:`Transport.send`."""
        client = self._client.current() or await self._client.open()
        builder = _builder(client, request).timeout(_duration(timeout))
        failed: LMDelugeError
        try:
            async with builder.build_streamed() as response:
                body = await self._read_body(response.body_reader, request)
                return HttpResponse(status=response.status, headers=ResponseHeaders(response.headers), body=body)
        except _native_error() as error:
            failed = failure(error, request, timeout=timeout)
        # Raised here and not in the handler: the original must not hang on it, as its text holds the whole URL.
        raise failed

    @asynccontextmanager
    async def stream(self, request: HttpRequest, *, timeout: float) -> "AsyncIterator[StreamedResponse]":  # noqa: ASYNC109
        """Send a request and hand over its answer while it arrives. See :meth:`Transport.stream`."""
        client = self._client.current() or await self._client.open()
        # No buffer: a chunk is handed over when it arrives, not when 64 KiB have.
        opened = _builder(client, request).timeout(_LONGEST).streamed_read_buffer_limit(0).build_streamed()
        response = await _within(timeout, opened.__aenter__(), request)
        try:
            yield StreamedResponse(
                status=response.status,
                headers=ResponseHeaders(response.headers),
                chunks=self._chunks(response.body_reader, request, timeout),
            )
        finally:
            await opened.__aexit__(None, None, None)

    async def aclose(self) -> None:
        """Close the connections. Requests under way fail; a later request opens new ones."""
        self._client.close()

    async def _read_body(self, reader: "ResponseBodyReader", request: HttpRequest) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            piece = await reader.read(_PIECE)
            if piece is not None:
                size += len(piece)
                if size > self._max_body_bytes:
                    raise _too_large(request, self._max_body_bytes)
                pieces.append(piece.to_bytes())
            if piece is None or len(piece) < _PIECE:  # fewer bytes than asked for means the end
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _chunks(self, reader: "ResponseBodyReader", request: HttpRequest, limit: float) -> "AsyncIterator[bytes]":
        size = 0
        while (chunk := await _within(limit, reader.read_chunk(), request)) is not None:
            size += len(chunk)
            if size > self._max_body_bytes:
                raise _too_large(request, self._max_body_bytes)
            yield chunk.to_bytes()


async def _within(limit: float, step: "Awaitable[T]", request: HttpRequest) -> "T":
    """One step of a streamed exchange, or the failure it means."""
    failed: LMDelugeError
    try:
        async with asyncio.timeout(_duration(limit).total_seconds()):
            return await step
    except _native_error() as error:
        failed = failure(error, request, timeout=_LONGEST.total_seconds())  # the only native limit of a stream
    except TimeoutError:
        failed = RequestTimeout(f"{host_of(request)} sent nothing for {limit:g} s. Allow more time, or try again.")
    raise failed  # outside the handlers, as in send()


def _configure(
    builder: "ClientBuilder",
    *,
    proxy: str | None,
    trust_env: bool,
    certificates: "Sequence[bytes]",
    connect_timeout: timedelta,
) -> "ClientBuilder":
    builder = (
        builder.user_agent(f"lm_deluge/{__version__}")
        .follow_redirects(False)
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(timedelta(seconds=60))
        .tcp_keepalive(timedelta(seconds=30))
    )
    for certificate in certificates:
        builder = builder.add_root_certificate_pem(certificate)
    if proxy is not None:
        from pyreqwest.proxy import ProxyBuilder

        return builder.proxy(ProxyBuilder.all(proxy))
    # reqwest knows "*" for names alone; everywhere else it excludes addresses too.
    excluded = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    return builder if trust_env and excluded.strip() != "*" else builder.no_proxy()


def _builder(client: "Client", request: HttpRequest) -> "RequestBuilder":
    try:
        builder = client.request(request.method, request.url).headers(request.headers)
        return builder.body_bytes(request.body) if request.body else builder
    except ValueError:
        pass
    raise refused_request(request)  # outside the handler: the original quotes the header's value


def _native_error() -> "type[PyreqwestError]":
    from pyreqwest.exceptions import PyreqwestError

    return PyreqwestError


@functools.lru_cache(maxsize=64)
def _duration(seconds: float) -> timedelta:
    if not seconds > 0:
        raise ConfigError(f"A time limit of {seconds} s has no meaning; it has to be above 0.")
    return timedelta(seconds=seconds) if seconds < _LONGEST.total_seconds() else _LONGEST


def _checked_proxy(proxy: str) -> str:
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("proxy has to be http://host:port or https://host:port, with user:password@ if need be.")
    return proxy


def _read_certificates(path: Path) -> list[bytes]:
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"ca_file {str(path)!r} cannot be read: {error.strerror}.") from error
    found = [begin + part.partition(end)[0] + end + b"\n" for part in data.split(begin)[1:] if end in part]
    if not found:
        raise ConfigError(f"ca_file {str(path)!r} holds no certificate in PEM form.")
    return found


def _too_large(request: HttpRequest, limit: int) -> TransportError:
    return TransportError(f"{host_of(request)} sent a body above max_body_bytes ({limit} bytes). It was not read on.")
