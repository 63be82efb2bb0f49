"""What a server sends beyond an answer costs neither this one nor the next."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from lm_deluge.errors import TransportError
from lm_deluge.transport import AiohttpTransport, AsyncioTransport, Transport
from lm_deluge.wire import HttpRequest


def answer(body: bytes, *fields: bytes) -> bytes:
    head = [b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), *fields]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


async def talk(connections: Sequence[Sequence[bytes]], transport: Transport) -> list[object]:
    """Requests one after another, as many as there are things to answer; each connection answers with what it has."""
    waiting = [list(each) for each in connections]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = waiting.pop(0)
        try:
            while mine:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(mine.pop(0))
                await writer.drain()
            await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    found: list[object] = []
    try:
        for _ in range(sum(map(len, connections))):
            request = HttpRequest(method="GET", url=f"http://127.0.0.1:{port}/", headers={})
            try:
                response = await transport.send(request, timeout=20)
                found.append((response.body, response.headers.get("retry-after")))
            except TransportError as error:
                found.append(error)
    finally:
        await transport.aclose()
        server.close()
    return found


ONE, TWO = answer(b"one"), answer(b"two")


@pytest.mark.parametrize(
    "excess",
    [ONE, ONE[:1], ONE[:20], b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n", b"garbage", answer(b"EVIL", b"retry-after: 9")],
    ids=["whole", "byte", "part", "interim", "garbage", "other"],
)
def test_what_follows_an_answer_costs_none(excess: bytes) -> None:
    assert asyncio.run(talk([[ONE + excess], [TWO]], AsyncioTransport())) == [(b"one", None), (b"two", None)]


@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content"])
@pytest.mark.parametrize("make", [AsyncioTransport, AiohttpTransport])
def test_garbage_in_the_same_packet_costs_none(make: Callable[[], Transport], status: bytes) -> None:
    first = ONE if status.startswith(b"200") else b"HTTP/1.1 %b\r\n\r\n" % status
    found = asyncio.run(talk([[first + b"garbage"], [TWO]], make()))
    assert found == [(b"one" if first is ONE else b"", None), (b"two", None)]


@pytest.mark.parametrize("make", [AsyncioTransport, AiohttpTransport])
def test_a_malformed_body_is_not_waited_for(make: Callable[[], Transport]) -> None:
    """Not where it follows a head that is in order, either."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.write(b"zz\r\nabc")
            await reader.read()
            writer.close()

        transport, server = make(), await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(TransportError, match="not valid HTTP") as caught:
            await transport.send(HttpRequest(method="GET", url=url, headers={}), timeout=20)
        assert type(caught.value) is TransportError
        await transport.aclose()
        server.close()

    asyncio.run(main())
