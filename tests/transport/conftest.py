"""A peer on a real socket that plays any part: a good server, a broken one, a proxy."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from lm_deluge.transport import AiohttpTransport, AsyncioTransport
from lm_deluge.wire import HttpRequest

CERTS = Path(__file__).parent / "certs"


class Received(NamedTuple):
    line: str
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection a client made to the peer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> Received:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        return Received(line, headers, await self.reader.readexactly(int(headers.get("content-length", 0))))

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, body: bytes = b"", *, status: str = "200 OK", headers: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\n{headers}content-length: {len(body)}\r\n\r\n"
        await self.write(head.encode("latin-1") + body)

    async def closed(self) -> None:
        """Return once the client has closed the connection."""
        while await self.reader.read(65536):
            pass


class Peer(NamedTuple):
    url: str
    port: int


@asynccontextmanager
async def _serve(
    handler: Callable[[Connection], Awaitable[None]], *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Peer]:
    playing: set[asyncio.Task[None]] = set()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def part() -> None:
            try:
                await handler(Connection(reader, writer))
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # the client is gone, which many of these parts expect
            finally:
                writer.close()
                # A connection that is still closing when the loop ends would be reported in some later test.
                with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
                    await asyncio.wait_for(writer.wait_closed(), 1)

        task = asyncio.ensure_future(part())
        playing.add(task)
        await asyncio.wait([task])
        playing.discard(task)
        if not task.cancelled():
            task.result()

    server = await asyncio.start_server(play, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Peer(f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{port}", port)
    finally:
        server.close()
        for task in playing:
            task.cancel()
        while playing:
            await asyncio.sleep(0)
        # A connection that is still closing, or in the middle of a handshake, would be reported by a later test.
        for transport in list(asyncio.get_running_loop()._transports.values()):
            if transport._loop is not None:  # not closed yet
                transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)
        await server.wait_closed()


@pytest.fixture(params=[AsyncioTransport, AiohttpTransport], ids=["asyncio", "aiohttp"])
def each_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a module calls ``Transport`` is one of them after the other: they have to behave alike."""
    monkeypatch.setattr(request.module, "Transport", request.param)


@pytest.fixture
def serve():
    """``async with serve(handler, tls=None) as peer``: each connection runs ``handler(connection)``, then closes."""
    return _serve


@pytest.fixture
def tls() -> ssl.SSLContext:
    """A server's side of TLS, with a certificate for ``localhost`` that no system trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / "server.pem", CERTS / "server.key")
    return context


@pytest.fixture
def certs() -> Path:
    return CERTS


@pytest.fixture
def post():
    """Build a request that holds ``SECRET`` in every place where a credential or a prompt can be."""

    def build(url: str, *, body: bytes = b'{"prompt":"SECRET-body"}', **headers: str) -> HttpRequest:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return HttpRequest(
            method="POST",
            url=f"{url}/v1/messages?key=SECRET-query",
            headers={"x-api-key": "SECRET-header", "content-type": "application/json", **named},
            body=body,
        )

    return build


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
