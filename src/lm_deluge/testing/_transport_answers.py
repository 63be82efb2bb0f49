"""Checks of what is sent and what comes back whole."""

import asyncio
import gzip

import pytest

from lm_deluge.errors import TransportError
from lm_deluge.testing._expect import expect
from lm_deluge.testing._transport_checks import CHUNKED, OK, Checks, after_request, chunk, in_loop, post, replying
from lm_deluge.testing._transport_peer import Connection, Received, serve
from lm_deluge.wire import HttpRequest

__all__ = ["AnswerChecks"]


def _answer(body: bytes, *fields: bytes) -> bytes:
    head = [b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), *fields]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


_ONE, _TWO = _answer(b"one"), _answer(b"two")


class AnswerChecks(Checks):
    """Status, headers and body as they were sent, in both directions."""

    def test_the_request_arrives_as_given_and_the_answer_comes_back_whole(self) -> None:
        received: list[Received] = []
        reply = {"status": "418 I'm a teapot", "headers": "X-Request-Id: r1\r\n"}
        handler = replying(b"\x00\xffanswer", seen=received, **reply)
        answer = self.answer(handler, body=b"\x00\xff")
        expect((answer.status, answer.body), (418, b"\x00\xffanswer"), "status and body of an answer")
        expect(answer.headers["x-request-id"], "r1", "a header of an answer, by its name in lower case")
        (request,) = received
        expect(request.line, "POST /v1/messages?key=SECRET-query HTTP/1.1", "the request line")
        expect(request.body, b"\x00\xff", "the body of a request")
        expect(request.headers.get("x-api-key"), "SECRET-header", "a header of a request")
        expect("cookie" in request.headers, False, "whether a cookie was sent")

    @in_loop
    async def test_a_get_has_no_body(self) -> None:
        received: list[Received] = []

        async with self.facing(replying(seen=received)) as (transport, url):
            request = HttpRequest(method="GET", url=url + "/models", headers={})
            expect((await transport.send(request, timeout=60)).body, b"ok", "the answer to a GET")
        expect(received[0].line, "GET /models HTTP/1.1", "the request line")
        expect("content-length" in received[0].headers, False, "whether a GET without a body has a length")

    def test_of_a_repeated_header_the_last_value_counts(self) -> None:
        sent = "X-Twice: 1\r\nx-twice: 2\r\nX-Odd: caf\xe9\r\nX-Empty:\r\n"
        headers = self.answer(replying(headers=sent)).headers
        expect(headers.get("x-twice"), "2", "a header that came twice")
        expect(headers.get("x-empty"), "", "a header without a value")
        expect(headers.get("absent"), None, "a header that did not come")

    @pytest.mark.parametrize("size", [1, 65_535, 65_536, 262_143, 262_144, 262_145, 524_288, 3_000_000])
    @pytest.mark.parametrize("framing", ["content-length", "chunked", "until closed", "gzip"])
    def test_a_body_of_any_size_and_framing_is_read_to_its_end(self, size: int, framing: str) -> None:
        body = bytes(range(256)) * (size // 256) + b"z" * (size % 256)

        async def handler(connection: Connection) -> None:
            await connection.request()
            if framing == "content-length":
                await connection.reply(body)
            elif framing == "gzip":
                await connection.reply(gzip.compress(body, 1), headers="content-encoding: gzip\r\n")
            elif framing == "chunked":
                await connection.write(CHUNKED)
                for start in range(0, size, 100_000):
                    await connection.write(chunk(body[start : start + 100_000]))
                await connection.write(chunk(b""))
            else:
                await connection.write(OK + b"connection: close\r\n\r\n" + body)

        expect(self.answer(handler).body == body, True, f"whether a body of {size} bytes came whole ({framing})")

    def test_a_body_of_many_small_chunks_is_whole(self) -> None:
        letters = [b"%c" % (97 + number % 26) for number in range(20_000)]
        sent = CHUNKED + b"".join(map(chunk, letters)) + chunk(b"")
        answer = self.answer(after_request(sent, then="silence"))
        expect(answer.body == b"".join(letters), True, "whether a body of 20,000 chunks came whole")

    @pytest.mark.parametrize("parts", [1, 2, 5])
    def test_a_compressed_body_may_have_several_members(self, parts: int) -> None:
        body = b"".join(gzip.compress(b"%d" % number) for number in range(parts))
        head = OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
        answer = self.answer(after_request(head + body, then="silence"))
        expect(answer.body, b"".join(b"%d" % number for number in range(parts)), f"a body of {parts} gzip members")

    @pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
    def test_an_answer_without_a_body_is_not_waited_for(self, status: str) -> None:
        answer = self.answer(after_request(f"HTTP/1.1 {status}\r\n\r\n".encode(), then="silence"))
        expect((answer.status, answer.body), (int(status[:3]), b""), "an answer that has no body")

    def test_an_interim_answer_is_not_the_answer(self) -> None:
        early = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        answer = self.answer(after_request(early + _ONE, then="silence"))
        expect((answer.status, answer.body), (200, b"one"), "the answer after an interim one")

    @pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
    @in_loop
    async def test_a_redirect_is_returned_and_no_credential_goes_to_the_other_host(self, status: str) -> None:
        visited: list[Received] = []

        async with serve(replying(seen=visited)) as other:
            handler = replying(status=status, headers=f"location: {other.url}/\r\n")
            async with self.facing(handler) as (transport, url):
                answer = await transport.send(post(url), timeout=60)
        expect(answer.status, int(status[:3]), "the status of a redirect")
        expect(answer.headers["location"].startswith("http://127.0.0.1:"), True, "whether its location came along")
        expect(len(visited), 0, "the number of requests to the other host")

    @in_loop
    async def test_cookies_are_not_kept(self) -> None:
        received: list[Received] = []
        handler = replying(seen=received, headers="set-cookie: session=1; Path=/\r\n")

        async with self.facing(handler) as (transport, url):
            for _ in range(2):
                await transport.send(post(url), timeout=60)
        expect(len(received), 2, "the number of requests")
        expect("cookie" in received[1].headers, False, "whether a cookie went back")

    @pytest.mark.parametrize(
        "excess",
        [
            pytest.param(_ONE, id="whole"),
            pytest.param(_ONE[:1], id="byte"),
            pytest.param(_ONE[:20], id="part"),
            pytest.param(b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n", id="interim"),
            pytest.param(b"garbage", id="garbage"),
            pytest.param(_answer(b"EVIL", b"retry-after: 9"), id="other"),
        ],
    )
    @pytest.mark.parametrize("when", ["in one packet", "later"])
    def test_what_follows_an_answer_is_not_the_next_one(self, excess: bytes, when: str) -> None:
        first = [_ONE + excess] if when == "in one packet" else [_ONE, excess]
        answers = self._talk([first, [_TWO]])
        for found, wanted in zip(answers, [(b"one", None), (b"two", None)], strict=True):
            if not isinstance(found, TransportError):  # which is no answer, and so no wrong one
                expect(found, wanted, "one of two answers, with something after the first")

    def test_trailers_are_not_headers(self) -> None:
        head = CHUNKED.removesuffix(b"\r\n") + b"retry-after: 1\r\n\r\n" + chunk(b"one") + b"0\r\n"
        found = self._talk([[head + b"retry-after: 99\r\n\r\n"]], requests=1)
        expect(found, [(b"one", "1")], "an answer whose trailers repeat a header")

    def test_trailers_have_an_end(self) -> None:
        trailers = b"x: " + b"y" * 1_000 + b"\r\n" + b"a: bcd\r\n" * 20_000
        error = self.failure(after_request(CHUNKED + chunk(b"one") + b"0\r\n" + trailers, then="silence"))
        self.says(error, "trailers|headers")

    def _talk(self, connections: list[list[bytes]], *, requests: int = 2) -> list[object]:
        """What requests get one after another. Each connection writes its pieces, and after that the second answer."""
        waiting, written = list(connections), asyncio.Event()

        async def handler(connection: Connection) -> None:
            await connection.request()
            for data in waiting.pop(0):
                await connection.write(data)
                await asyncio.sleep(0.02)
            written.set()
            while True:
                await connection.request()
                await connection.write(_TWO)
                written.set()

        async def main() -> list[object]:
            found: list[object] = []
            async with self.facing(handler) as (transport, url):
                for _ in range(requests):
                    written.clear()
                    try:
                        answer = await transport.send(post(url), timeout=20)
                        found.append((answer.body, answer.headers.get("retry-after")))
                    except TransportError as error:
                        found.append(error)
                    await written.wait()  # bytes that cross the next request cannot be told from its answer
            return found

        return self.run(main())
