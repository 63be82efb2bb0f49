"""The other side of the checks of transports: a peer on a real socket that plays any part, good or broken."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = ["CERTIFICATES", "Connection", "Handler", "Peer", "Received", "serve", "server_tls"]

CERTIFICATES = Path(__file__).parent / "data" / "certs"
"""An authority (``ca.pem``), another one (``other-ca.pem``), and a server's certificate for ``localhost`` alone."""


class Received(NamedTuple):
    """A request as the peer got it."""

    line: str
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection that a client made to the peer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> Received:
        """The next request, read to its end."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        return Received(line, headers, await self.reader.readexactly(int(headers.get("content-length", 0))))

    async def write(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, body: bytes = b"", *, status: str = "200 OK", headers: str = "") -> None:
        """Send a whole answer."""
        head = f"HTTP/1.1 {status}\r\n{headers}content-length: {len(body)}\r\n\r\n"
        await self.write(head.encode("latin-1") + body)

    async def closed(self) -> None:
        """Return once the client has closed the connection."""
        while await self.reader.read(65536):
            pass


Handler = Callable[[Connection], Awaitable[object]]


class Peer(NamedTuple):
    """Where the peer listens."""

    url: str
    port: int


@asynccontextmanager
async def serve(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """Listen on the loopback interface. Each connection runs ``handler(connection)`` and is then closed."""
    playing: set[asyncio.Task[None]] = set()
    writers: set[asyncio.StreamWriter] = set()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def part() -> None:
            try:
                await handler(Connection(reader, writer))
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # the client is gone, as many of the parts expect
            finally:
                writer.close()
                # A connection that is still closing when the loop ends would be reported in some later test.
                with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
                    await asyncio.wait_for(writer.wait_closed(), 1)

        task = asyncio.ensure_future(part())
        playing.add(task)
        writers.add(writer)
        await asyncio.wait([task])
        playing.discard(task)
        writers.discard(writer)
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
        while playing:  # noqa: ASYNC110 - a few turns of the loop
            await asyncio.sleep(0)
        for writer in writers:
            writer.transport.abort()
        # asyncio's own loop knows those that are in the middle of a handshake, too.
        for transport in list(getattr(asyncio.get_running_loop(), "_transports", {}).values()):
            if transport._loop is not None:  # not closed yet
                transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)
        await server.wait_closed()


def server_tls() -> ssl.SSLContext:
    """A server's side of TLS, with a certificate for ``localhost`` that no system trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
    return context
