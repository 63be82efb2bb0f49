"""What ours promise beyond the conformance suite: headers, and settings that are refused."""

import asyncio

import pytest

from lm_deluge.errors import ConfigError
from lm_deluge.transport import AsyncioTransport as Transport

pytestmark = pytest.mark.usefixtures("each_transport")


def test_a_request_says_which_program_sends_it(serve, post):
    received = []

    async def handler(connection):
        received.append(await connection.request())
        await connection.reply(headers="X-Request-Id: r1\r\n")

    async def main():
        async with serve(handler) as peer:
            return await Transport().send(post(peer.url), timeout=60)

    answer = asyncio.run(main())
    assert answer.headers["x-request-id"] == answer.headers["X-Request-ID"] == "r1"
    assert received[0].headers["user-agent"].startswith("lm_deluge/")


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
