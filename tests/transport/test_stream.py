"""Streamed answers: chunks as they arrive, silence and drops on the way, and the connection afterwards."""

import asyncio
import time

import pytest

from lm_deluge.errors import ConnectError, ConnectionDropped, RequestTimeout, TransportError
from lm_deluge.transport import AiohttpTransport
from lm_deluge.transport import AsyncioTransport as Transport

pytestmark = pytest.mark.usefixtures("each_transport")

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def piece(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_each_chunk_is_handed_over_before_the_next_is_sent(serve, post):
    async def main():
        taken = asyncio.Event()

        async def handler(connection):
            await connection.request()
            await connection.write(HEAD)
            for number in range(5):
                await taken.wait()  # nothing goes out before the reader has what went before
                taken.clear()
                await connection.write(piece(b"data: %d\n\n" % number))
            await connection.write(piece(b""))

        async with serve(handler) as peer, Transport().stream(post(peer.url), timeout=60) as response:
            assert response.status == 200
            assert response.headers["content-type"] == "text/event-stream"
            taken.set()
            chunks = []
            async for chunk in response.chunks:
                chunks.append(chunk)
                taken.set()
            return chunks

    assert asyncio.run(main()) == [b"data: %d\n\n" % number for number in range(5)]


def test_the_error_body_of_a_refused_stream_can_be_read(serve, post):
    async def handler(connection):
        await connection.request()
        await connection.reply(b'{"error":"overloaded"}', status="529 Overloaded")

    async def main():
        async with serve(handler) as peer, Transport().stream(post(peer.url), timeout=60) as response:
            return response.status, await response.read()

    assert asyncio.run(main()) == (529, b'{"error":"overloaded"}')


@pytest.mark.parametrize(
    ("written", "then", "kind"),
    [
        ([HEAD, piece(b"one")], "close", ConnectionDropped),
        ([HEAD, piece(b"one")], "silence", RequestTimeout),
        ([HEAD, piece(b"one"), b"zz\r\n"], "close", TransportError),
        ([HEAD], "silence", RequestTimeout),
        ([], "silence", RequestTimeout),
        ([], "close", ConnectionDropped),
        ([HEAD, piece(b"one") + piece(b"x" * 5000)], "silence", TransportError),
    ],
)
def test_what_goes_wrong_on_the_way_is_named(serve, post, written, then, kind):
    # What is to come has to come within the limit, also on a busy machine; where nothing is to come, it is waited for.
    limit = 60 if kind is not RequestTimeout else 1 if len(written) > 1 else 0.1

    async def main():
        got = []

        async def handler(connection):
            await connection.request()
            for data in written:
                await connection.write(data)
            if then == "silence":
                await connection.closed()

        async with serve(handler) as peer:

            async def read():
                async with Transport(max_body_bytes=4000).stream(post(peer.url), timeout=limit) as response:
                    async for chunk in response.chunks:
                        got.append(chunk)

            with pytest.raises(TransportError) as caught:
                await read()
        return got, caught.value

    got, error = asyncio.run(main())
    assert type(error) is kind
    whole = [b"one"] if len(written) > 1 else []
    assert got == whole or (Transport is AiohttpTransport and not got)  # which forgets what came before a failure
    assert "SECRET" not in str(error)
    assert error.__cause__ is None


def test_the_limit_is_for_each_silence_and_not_for_the_whole_stream(serve, post):
    longest = 0.0

    async def main(limit):
        async def handler(connection):
            nonlocal longest
            await connection.request()
            await connection.write(HEAD)
            last, longest = time.monotonic(), 0.0
            for _ in range(12):
                await asyncio.sleep(limit / 8)
                await connection.write(piece(b"."))
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
            await connection.write(piece(b""))

        async with serve(handler) as peer, Transport().stream(post(peer.url), timeout=limit) as response:
            return await response.read()

    for limit in (0.2, 2, 20):
        try:
            assert asyncio.run(main(limit)) == b"." * 12
            return
        except RequestTimeout:
            assert longest > limit / 4  # the server was kept from saying anything, so this says nothing: slower, then
    raise AssertionError("no silence was as long as the limit")


def test_leaving_early_closes_the_connection(serve, post):
    async def main():
        gone = asyncio.Event()

        async def handler(connection):
            await connection.request()
            await connection.write(HEAD + piece(b"one"))
            await connection.closed()
            gone.set()

        async with serve(handler) as peer:
            async with Transport().stream(post(peer.url), timeout=60) as response:
                assert await anext(aiter(response.chunks)) == b"one"
            await asyncio.wait_for(gone.wait(), 60)

    asyncio.run(main())


def test_a_slow_reader_holds_the_sender_back(serve, post):
    """What the reader has not asked for stays on the other side, not in memory."""

    async def main():
        sent = 0

        async def handler(connection):
            nonlocal sent
            await connection.request()
            await connection.write(HEAD)
            while True:
                await connection.write(piece(bytes(100_000)))
                sent += 100_000

        async with (
            serve(handler) as peer,
            Transport(max_body_bytes=10**12).stream(post(peer.url), timeout=60) as response,
        ):
            await anext(aiter(response.chunks))
            before = -1
            while before != sent and sent < 30_000_000:
                before = sent
                await asyncio.sleep(0.05)  # what is held back does not come however long one waits
            return sent

    assert asyncio.run(main()) < 30_000_000


def test_no_connection(post):
    async def main():
        async with Transport().stream(post("http://127.0.0.1:1"), timeout=60):
            raise AssertionError("there is nobody to answer")

    with pytest.raises(ConnectError, match="refused"):
        asyncio.run(main())
