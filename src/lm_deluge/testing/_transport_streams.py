"""Checks of streamed answers: pieces as they arrive, silence and drops on the way, and the connection afterwards."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lm_deluge.errors import ConnectError, ConnectionDropped, RequestTimeout, TransportError
from lm_deluge.testing._expect import expect
from lm_deluge.testing._transport_checks import (
    OK,
    Checks,
    after_request,
    assert_no_secret,
    caught,
    chunk,
    in_loop,
    post,
    replying,
)
from lm_deluge.testing._transport_peer import Connection, Handler
from lm_deluge.transport import StreamedResponse

__all__ = ["StreamChecks"]

_HEAD = OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class StreamChecks(Checks):
    """``stream``."""

    @in_loop
    async def test_each_chunk_is_handed_over_before_the_next_is_sent(self) -> None:
        taken = asyncio.Event()

        async def handler(connection: Connection) -> None:
            await connection.request()
            await connection.write(_HEAD)
            for number in range(5):
                await taken.wait()  # nothing goes out before the reader has what went before
                taken.clear()
                await connection.write(chunk(b"data: %d\n\n" % number))
            await connection.write(chunk(b""))

        async with self._streamed(handler) as response:
            expect(response.status, 200, "the status of a stream")
            expect(response.headers["content-type"], "text/event-stream", "a header of a stream")
            taken.set()
            pieces = []
            async for piece in response.chunks:
                pieces.append(piece)
                taken.set()
            expect(pieces, [b"data: %d\n\n" % number for number in range(5)], "the pieces of a stream")

    @in_loop
    async def test_the_error_body_of_a_refused_stream_can_be_read(self) -> None:
        handler = replying(b'{"error":"overloaded"}', status="529 Overloaded")

        async with self._streamed(handler) as response:
            found = (response.status, await response.read())
            expect(found, (529, b'{"error":"overloaded"}'), "status and body of a stream that was refused")

    @pytest.mark.parametrize(
        ("written", "then", "kind"),
        [
            ([_HEAD, chunk(b"one")], "close", ConnectionDropped),
            ([_HEAD, chunk(b"one")], "silence", RequestTimeout),
            ([_HEAD, chunk(b"one"), b"zz\r\n"], "close", TransportError),
            ([_HEAD], "silence", RequestTimeout),
            ([], "silence", RequestTimeout),
            ([], "close", ConnectionDropped),
            ([_HEAD, chunk(b"one") + chunk(b"x" * 5000)], "silence", TransportError),
        ],
    )
    @in_loop
    async def test_what_goes_wrong_on_the_way_is_named(
        self, written: list[bytes], then: str, kind: type[TransportError]
    ) -> None:
        # What is to come has to come within the limit, also on a busy machine; where nothing is to come, it is short.
        limit = 60 if kind is not RequestTimeout else 1 if len(written) > 1 else 0.1
        got: list[bytes] = []
        with caught(TransportError) as errors:
            async with self._streamed(after_request(*written, then=then), limit=limit, max_body_bytes=4000) as response:
                async for piece in response.chunks:
                    got.append(piece)
        expect(type(errors[0]), kind, "the exception")
        expect(errors[0].__cause__, None, "its cause, which could repeat what was sent")
        if self.keeps_pieces or got:
            expect(got, [b"one"] if len(written) > 1 else [], "what came before the failure")

    @in_loop
    async def test_an_answer_that_cannot_be_read_is_refused_at_its_head(self) -> None:
        handler = after_request(OK + b"transfer-encoding: identity\r\n\r\nok", then="silence")

        with caught(TransportError) as errors:
            async with self._streamed(handler) as response:
                await response.read()
        expect(type(errors[0]), TransportError, "the exception")

    def test_the_limit_is_for_each_silence_and_not_for_the_whole_stream(self) -> None:
        longest = 0.0

        async def main(limit: float) -> bytes:
            async def handler(connection: Connection) -> None:
                nonlocal longest
                await connection.request()
                await connection.write(_HEAD)
                last, longest = time.monotonic(), 0.0
                for _ in range(12):
                    await asyncio.sleep(limit / 8)
                    await connection.write(chunk(b"."))
                    longest, last = max(longest, time.monotonic() - last), time.monotonic()
                await connection.write(chunk(b""))

            async with self._streamed(handler, limit=limit) as response:
                return await response.read()

        for limit in (0.2, 2, 20):
            try:
                found = self.run(main(limit))
            except RequestTimeout as error:
                assert_no_secret(error)
                if longest <= limit / 4:
                    raise AssertionError("a stream was ended although no silence was as long as its limit") from error
                continue  # the server was kept from writing, which says nothing: slower, then
            expect(found, b"." * 12, "a stream that lasts longer than its limit")
            return
        pytest.skip("this machine is too busy")

    @in_loop
    async def test_leaving_early_closes_the_connection(self) -> None:
        gone = asyncio.Event()

        async def handler(connection: Connection) -> None:
            await connection.request()
            await connection.write(_HEAD + chunk(b"one"))
            await connection.closed()
            gone.set()

        async with self.facing(handler) as (transport, url):
            async with transport.stream(post(url), timeout=60) as response:
                expect(await anext(aiter(response.chunks)), b"one", "the first piece")
            await asyncio.wait_for(gone.wait(), 60)

    @in_loop
    async def test_a_slow_reader_holds_the_sender_back(self) -> None:
        """What the reader has not asked for stays on the other side, not in memory."""
        self.needs("max_body_bytes")

        sent = 0

        async def handler(connection: Connection) -> None:
            nonlocal sent
            await connection.request()
            await connection.write(_HEAD)
            while True:
                await connection.write(chunk(bytes(100_000)))
                sent += 100_000

        async with self._streamed(handler, max_body_bytes=10**12) as response:
            await anext(aiter(response.chunks))
            before = -1
            while before != sent and sent < 30_000_000:
                before = sent
                await asyncio.sleep(0.05)  # what is held back does not come however long one waits
            expect(sent < 30_000_000, True, "whether a sender without a reader is held back")

    @in_loop
    async def test_a_stream_without_a_connection(self) -> None:
        with caught(ConnectError) as errors:
            async with self.made().stream(post("http://127.0.0.1:1"), timeout=60):
                raise AssertionError("nothing listens there")
        self.says(errors[0], "refused")

    @contextlib.asynccontextmanager
    async def _streamed(
        self, handler: Handler, *, limit: float = 60, **settings: Any
    ) -> AsyncIterator[StreamedResponse]:
        """The answer of a peer that plays ``handler``, streamed."""
        async with (
            self.facing(handler, **settings) as (transport, url),
            transport.stream(post(url), timeout=limit) as response,
        ):
            yield response
