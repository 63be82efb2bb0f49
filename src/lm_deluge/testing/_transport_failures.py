"""Checks of every way in which an exchange can fail: the exception, and that it repeats nothing of the request."""

import asyncio
import socket
import zlib

import pytest

from lm_deluge.errors import ConfigError, ConnectError, ConnectionDropped, RequestTimeout, TransportError
from lm_deluge.testing._expect import expect
from lm_deluge.testing._transport_checks import (
    CHUNKED,
    OK,
    Checks,
    after_request,
    caught,
    chunk,
    in_loop,
    post,
    replying,
)
from lm_deluge.testing._transport_peer import Connection, Handler
from lm_deluge.wire import HttpRequest

__all__ = ["FailureChecks"]


class FailureChecks(Checks):
    """Broken answers, time limits, limits of size, requests that cannot be sent."""

    @pytest.mark.parametrize(
        ("handler", "kind"),
        [
            pytest.param(after_request(), ConnectionDropped, id="closed before any answer"),
            pytest.param(after_request(then="reset"), ConnectionDropped, id="reset before any answer"),
            pytest.param(after_request(OK[:9]), ConnectionDropped, id="closed within the status line"),
            pytest.param(after_request(OK + b"content-le"), ConnectionDropped, id="closed within the headers"),
            pytest.param(after_request(OK + b"content-length: 100\r\n\r\nabc"), ConnectionDropped, id="half a body"),
            pytest.param(
                after_request(OK + b"content-length: 100\r\n\r\nabc", then="reset"),
                ConnectionDropped,
                id="reset in the body",
            ),
            pytest.param(after_request(CHUNKED + b"3\r\nabc\r\n"), ConnectionDropped, id="no last chunk"),
            pytest.param(after_request(CHUNKED + b"f\r\nabc"), ConnectionDropped, id="half a chunk"),
            pytest.param(
                after_request(OK + b"content-length: 200000\r\n\r\n" + b"a" * 150_000),
                ConnectionDropped,
                id="half a long body",
            ),
            pytest.param(
                after_request(OK + b"content-length: 999999999999999999\r\n\r\nabc"),
                ConnectionDropped,
                id="absurd length",
            ),
            pytest.param(after_request(CHUNKED + b"zz\r\nabc"), TransportError, id="invalid chunk size"),
            pytest.param(after_request(OK + b"content-length: many\r\n\r\nabc"), TransportError, id="invalid length"),
            pytest.param(after_request(b"SSH-2.0-OpenSSH_9.6\r\n"), TransportError, id="not HTTP"),
            pytest.param(after_request(OK + b"x: " + b"a" * 2_000_000), TransportError, id="huge header"),
            pytest.param(
                after_request(OK + b"".join(b"x-%d: 1\r\n" % n for n in range(5000)) + b"\r\n"),
                TransportError,
                id="thousands of headers",
            ),
            pytest.param(
                after_request(OK + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nabcde"),
                TransportError,
                id="not gzip",
            ),
        ],
    )
    def test_a_broken_answer_is_an_error_of_its_kind(self, handler: Handler, kind: type[TransportError]) -> None:
        expect(type(self.failure(handler)), kind, "the exception")

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(OK + b"transfer-encoding: identity\r\n\r\nok", id="identity"),
            pytest.param(
                OK + b"transfer-encoding: identity\r\ncontent-length: 2\r\n\r\nok", id="identity and a length"
            ),
            pytest.param(
                OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", id="compressed and chunked"
            ),
            pytest.param(OK + b"content-encoding: gzip, gzip\r\ncontent-length: 2\r\n\r\nok", id="compressed twice"),
            pytest.param(OK + b"content-encoding: br\r\ncontent-length: 2\r\n\r\nok", id="compression not asked for"),
            pytest.param(b"HTTP/1.1 099 Odd\r\ncontent-length: 2\r\n\r\nok", id="status 099"),
            pytest.param(b"HTTP/1.1 000 Odd\r\ncontent-length: 2\r\n\r\nok", id="status 000"),
            pytest.param(b"HTTP/1.1 101 Switching\r\n\r\nok", id="status 101"),
            pytest.param(
                b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nok", id="other protocol"
            ),
            pytest.param(
                OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(b"ok") + chunk(b""),
                id="two framings",
            ),
        ],
    )
    def test_an_answer_that_cannot_be_read_is_refused_and_not_waited_for(self, answer: bytes) -> None:
        """The server keeps the connection open, so that to wait would be to wait for the whole time limit."""
        error = self.failure(after_request(answer, then="silence"))
        expect(type(error), TransportError, "the exception")
        self.says(error, "not valid HTTP")

    @pytest.mark.parametrize(
        "handler",
        [
            pytest.param(after_request(then="silence"), id="before any answer"),
            pytest.param(after_request(OK + b"content-le", then="silence"), id="within the headers"),
            pytest.param(after_request(OK + b"content-length: 9\r\n\r\nabc", then="silence"), id="within the body"),
            pytest.param(
                after_request(OK + b"content-length: 200000\r\n\r\n" + b"a" * 150_000, then="silence"),
                id="within a long body",
            ),
        ],
    )
    def test_a_server_that_falls_silent_is_a_timeout_and_not_a_failure_to_connect(self, handler: Handler) -> None:
        error = self.failure(handler, limit=0.1)
        expect(type(error), RequestTimeout, "the exception")
        expect(isinstance(error, TimeoutError), True, "whether it is a TimeoutError")
        self.says(error, "0.1 s")

    def test_the_limit_is_for_the_whole_exchange_and_not_for_each_read(self) -> None:
        async def drip(connection: Connection) -> None:
            await connection.request()
            await connection.write(CHUNKED)
            while not connection.reader.at_eof():
                await connection.write(chunk(b"a"))
                await asyncio.sleep(0.01)

        expect(type(self.failure(drip, limit=0.15)), RequestTimeout, "the exception, where a byte comes now and then")

    def test_a_limit_begins_with_its_own_request(self) -> None:
        """A connection that has served others, and requests with other limits in flight, change nothing."""

        async def handler(connection: Connection) -> None:
            while True:
                body = (await connection.request()).body
                await asyncio.sleep(0.3 if body == b"slow" else 0)
                await connection.reply(body)

        async def main() -> list[object]:
            async with self.facing(handler) as (transport, url):

                async def ask(body: bytes, limit: float) -> bytes:
                    return (await transport.send(post(url, body=body), timeout=limit)).body

                await ask(b"first", 0.5)
                await asyncio.sleep(0.4)
                asks = [ask(b"slow", 30), ask(b"slow", 0.1), ask(b"quick", 0.1), ask(b"slow", 30), ask(b"slow", 10)]
                found = await asyncio.gather(*asks, return_exceptions=True)
            return [each if isinstance(each, bytes) else type(each) for each in found]

        wanted = [b"slow", RequestTimeout, b"quick", b"slow", b"slow"]
        found = self.run(main())
        if found[2] != b"quick":
            found = self.run(main())  # this machine was too busy to be asked
        expect(found, wanted, "requests with different limits at once")

    def test_no_time_limit_at_all_is_allowed(self) -> None:
        expect(self.answer(replying(), limit=float("inf")).body, b"ok", "an answer without a time limit")

    def test_a_refused_connection(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        self.run(self._fails(ConnectError, post(f"http://127.0.0.1:{port}"), f"127.0.0.1:{port}.*refused"))

    def test_an_unknown_host(self) -> None:
        request = post("http://no-such-host.invalid")
        self.run(self._fails(ConnectError, request, r"no-such-host\.invalid.*host name"))

    @in_loop
    async def test_a_handshake_that_never_ends_is_a_failure_to_connect(self) -> None:
        async with self.facing(Connection.closed, connect_timeout=0.1) as (transport, url):
            with caught(ConnectError) as errors:
                await transport.send(post(url.replace("http:", "https:")), timeout=60)
            self.says(errors[0], "timed out")

    @pytest.mark.parametrize("framing", ["content-length", "chunked", "gzip"])
    def test_a_body_above_the_limit_is_not_read_on(self, framing: str) -> None:
        """A hostile server would otherwise fill the memory: with gzip, from a thousandth of the bytes."""
        sent: list[int] = []

        async def handler(connection: Connection) -> None:
            await connection.request()
            if framing == "gzip":
                squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
                start, piece = (squeeze.compress(bytes(1_000_000)) + squeeze.flush(zlib.Z_FULL_FLUSH) for _ in "12")
                await connection.write(OK + b"content-encoding: gzip\r\nconnection: close\r\n\r\n" + start)
            else:
                piece = chunk(bytes(1_000_000))
                await connection.write(
                    CHUNKED if framing == "chunked" else OK + b"content-length: 100000000000\r\n\r\n"
                )
            for _ in range(100_000):
                await connection.write(piece)
                sent.append(len(piece))

        error = self.failure(handler, max_body_bytes=2_000_000)
        self.says(error, "max_body_bytes")
        expect(sum(sent) < 20_000_000, True, "whether the rest was left in the socket")

    def test_a_body_of_exactly_the_limit_is_read(self) -> None:
        handler = replying(b"a" * 1000)
        expect(len(self.answer(handler, max_body_bytes=1000).body), 1000, "the length of a body of just the limit")
        self.says(self.failure(handler, max_body_bytes=999), "max_body_bytes")

    @pytest.mark.parametrize(
        ("url", "headers", "said"),
        [
            ("api.example.com/v1?key=SECRET", {}, "https://"),
            ("ftp://api.example.com/?key=SECRET", {}, "api.example.com"),
            ("http://[broken?key=SECRET", {}, "https://"),
            ("http://[broken?key=SECRET", {"x.y": "SECRET"}, "https://"),
            ("http://127.0.0.1:1", {"x-api-key": "SECRET\n"}, "'x-api-key'.*control character"),
            ("http://127.0.0.1:1", {"authorization": "Bearer SECRET\r\nx: y"}, "'authorization'.*control character"),
            ("http://127.0.0.1:1", {"bad name": "SECRET"}, "'bad name' is not a header name"),
            ("http://user:SECRET@127.0.0.1:1/", {"x": "SECRET\x00"}, "'x' for 127.0.0.1:1 "),
        ],
    )
    def test_what_cannot_be_sent_is_named_without_its_value(self, url: str, headers: dict[str, str], said: str) -> None:
        request = HttpRequest(method="POST", url=url, headers=headers, body=b"SECRET")
        self.run(self._fails(ConfigError, request, said))

    @pytest.mark.parametrize("limit", [0, -1, float("nan")])
    def test_a_time_limit_without_meaning_is_refused(self, limit: float) -> None:
        self.run(self._fails(ConfigError, post("http://127.0.0.1:1"), "time limit", limit=limit))

    async def _fails(self, kind: type[Exception], request: HttpRequest, said: str, *, limit: float = 60) -> None:
        with caught(kind) as errors:
            await self.made().send(request, timeout=limit)
        self.says(errors[0], said)
