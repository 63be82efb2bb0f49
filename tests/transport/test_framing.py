"""What a server sends beyond an answer costs neither this one nor the next. (Over aiohttp, garbage costs this one.)"""

import asyncio
from collections.abc import Sequence

import pytest

from lm_deluge.errors import TransportError
from lm_deluge.transport import AsyncioTransport
from lm_deluge.wire import HttpRequest


def answer(body: bytes, *fields: bytes) -> bytes:
    head = [b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), *fields]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


async def talk(connections: Sequence[Sequence[bytes]]) -> list[object]:
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
    transport = AsyncioTransport()
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
    assert asyncio.run(talk([[ONE + excess], [TWO]])) == [(b"one", None), (b"two", None)]
