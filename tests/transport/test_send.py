"""What is sent and what comes back when all goes well, over real sockets."""

import asyncio
import gzip

import pytest

from lm_deluge.errors import ConfigError
from lm_deluge.transport import AsyncioTransport as Transport
from lm_deluge.wire import HttpRequest

pytestmark = pytest.mark.usefixtures("each_transport")


def test_the_request_arrives_as_given_and_the_answer_comes_back_whole(serve, post):
    received = []

    async def handler(connection):
        received.append(await connection.request())
        await connection.reply(b"\x00\xffanswer", status="418 I'm a teapot", headers="X-Request-Id: r1\r\n")

    async def main():
        transport = Transport()
        async with serve(handler) as peer:
            answer = await transport.send(post(peer.url, body=b"\x00\xff"), timeout=60)
        await transport.aclose()
        return answer

    answer = asyncio.run(main())
    assert (answer.status, answer.body) == (418, b"\x00\xffanswer")
    assert answer.headers["x-request-id"] == answer.headers["X-Request-ID"] == "r1"
    (request,) = received
    assert request.line == "POST /v1/messages?key=SECRET-query HTTP/1.1"
    assert request.body == b"\x00\xff"
    assert request.headers["x-api-key"] == "SECRET-header"
    assert request.headers["user-agent"].startswith("lm_deluge/")
    assert "cookie" not in request.headers


def test_a_get_has_no_body(serve):
    received = []

    async def handler(connection):
        received.append(await connection.request())
        await connection.reply(b"ok")

    async def main():
        async with serve(handler) as peer:
            return await Transport().send(HttpRequest(method="GET", url=peer.url + "/models", headers={}), timeout=60)

    assert asyncio.run(main()).body == b"ok"
    assert received[0].line == "GET /models HTTP/1.1"
    assert "content-length" not in received[0].headers


def test_headers_are_a_plain_mapping_whatever_bytes_a_server_sends(serve, post):
    async def handler(connection):
        await connection.request()
        await connection.reply(headers="X-Twice: 1\r\nx-twice: 2\r\nX-Odd: caf\xe9\r\nX-Empty:\r\n")

    async def main():
        async with serve(handler) as peer:
            return await Transport().send(post(peer.url), timeout=60)

    headers = asyncio.run(main()).headers
    assert dict(headers) == {"x-twice": "2", "x-empty": "", "content-length": "0"}
    assert len(headers) == 3
    assert headers.get("x-odd") is None
    assert "x-odd" not in headers
    assert "absent" not in headers
    assert headers == {"x-twice": "2", "x-empty": "", "content-length": "0"}
    with pytest.raises(KeyError, match="absent"):
        headers["absent"]


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 262_143, 262_144, 262_145, 524_288, 3_000_000])
@pytest.mark.parametrize("framing", ["content-length", "chunked", "until closed", "gzip"])
def test_a_body_of_any_size_and_framing_is_read_to_its_end(serve, post, size, framing):
    body = bytes(range(256)) * (size // 256) + b"z" * (size % 256)

    async def handler(connection):
        await connection.request()
        if framing == "content-length":
            await connection.reply(body)
        elif framing == "gzip":
            await connection.reply(gzip.compress(body, 1), headers="content-encoding: gzip\r\n")
        elif framing == "chunked":
            await connection.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for start in range(0, size, 100_000):
                piece = body[start : start + 100_000]
                await connection.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await connection.write(b"0\r\n\r\n")
        else:
            await connection.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)

    async def main():
        async with serve(handler) as peer:
            return await Transport().send(post(peer.url), timeout=60)

    assert asyncio.run(main()).body == body


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
def test_a_redirect_is_returned_and_no_credential_goes_to_the_other_host(serve, post, status):
    visited = []

    async def elsewhere(connection):
        visited.append(await connection.request())
        await connection.reply()

    async def main():
        async with serve(elsewhere) as other:

            async def handler(connection):
                await connection.request()
                await connection.reply(status=status, headers=f"location: {other.url}/\r\n")

            async with serve(handler) as peer:
                return await Transport().send(post(peer.url), timeout=60)

    answer = asyncio.run(main())
    assert answer.status == int(status[:3])
    assert answer.headers["location"].startswith("http://127.0.0.1:")
    assert visited == []


def test_cookies_are_not_kept(serve, post):
    received = []

    async def handler(connection):
        while True:
            received.append(await connection.request())
            await connection.reply(headers="set-cookie: session=1; Path=/\r\n")

    async def main():
        transport = Transport()
        async with serve(handler) as peer:
            for _ in range(2):
                await transport.send(post(peer.url), timeout=60)
            await transport.aclose()

    asyncio.run(main())
    assert len(received) == 2
    assert "cookie" not in received[1].headers


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_body_bytes": 0}, "max_body_bytes"),
        ({"connect_timeout": 0}, "time limit"),
        ({"connect_timeout": float("nan")}, "time limit"),
        ({"proxy": "localhost:3128"}, "proxy"),
        ({"proxy": "ftp://user:SECRET@proxy"}, "proxy"),
        ({"ca_file": "/nonexistent/ca.pem"}, "/nonexistent/ca.pem"),
        ({"ca_file": __file__}, "certificate"),
    ],
)
def test_a_setting_without_meaning_is_refused_where_it_is_given(settings, said):
    with pytest.raises(ConfigError, match=said) as caught:
        Transport(**settings)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_time_limit_without_meaning_is_refused(post, limit):
    with pytest.raises(ConfigError, match="time limit"):
        asyncio.run(Transport().send(post("http://127.0.0.1:1"), timeout=limit))


def test_no_time_limit_at_all_is_allowed(serve, post):
    async def handler(connection):
        await connection.request()
        await connection.reply(b"ok")

    async def main():
        async with serve(handler) as peer:
            return await Transport().send(post(peer.url), timeout=float("inf"))

    assert asyncio.run(main()).body == b"ok"
