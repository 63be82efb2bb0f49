"""Every way an exchange can fail, on real sockets: the exception, its words, and what it must not say."""

import asyncio
import socket
import traceback
import zlib

import pytest

from lm_deluge.errors import ConfigError, ConnectError, ConnectionDropped, RequestTimeout, TransportError
from lm_deluge.transport import AsyncioTransport as Transport
from lm_deluge.wire import HttpRequest

pytestmark = pytest.mark.usefixtures("each_transport")

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def assert_tells_no_secret(error: BaseException) -> None:
    """Nothing of the credential, the query or the body: not in the text, the arguments or any chained exception."""
    shown = "".join(traceback.format_exception(error))
    while error is not None:
        shown += repr(error) + repr(error.args)
        error = error.__cause__ or error.__context__
    assert "SECRET" not in shown


def failure_of(serve, post, handler, *, timeout=60.0, **settings):
    """The exception that a request to a peer playing ``handler`` ends with."""

    async def main():
        transport = Transport(**settings)
        async with serve(handler) as peer:
            try:
                with pytest.raises(TransportError) as caught:
                    await transport.send(post(peer.url), timeout=timeout)
            finally:
                await transport.aclose()
            assert f"127.0.0.1:{peer.port}" in str(caught.value)
            return caught.value

    error = asyncio.run(main())
    assert_tells_no_secret(error)
    return error


def after_request(*written: bytes, then: str = "close"):
    """A part: read the request, write bytes, and then close, reset or say no more."""

    async def handler(connection):
        await connection.request()
        for data in written:
            await connection.write(data)
        if then == "silence":
            await connection.closed()
        elif then == "reset":
            connection.writer.transport.abort()

    return handler


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
            after_request(OK + b"content-length: 999999999999999999\r\n\r\nabc"), ConnectionDropped, id="absurd length"
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
def test_a_broken_answer_is_an_error_of_its_kind(serve, post, handler, kind):
    assert type(failure_of(serve, post, handler)) is kind


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(OK + b"transfer-encoding: identity\r\n\r\nok", id="identity"),
        pytest.param(OK + b"transfer-encoding: identity\r\ncontent-length: 2\r\n\r\nok", id="identity and length"),
        pytest.param(OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", id="gzip, chunked"),
        pytest.param(OK + b"content-encoding: gzip, gzip\r\ncontent-length: 2\r\n\r\nok", id="gzip twice"),
        pytest.param(OK + b"content-encoding: br\r\ncontent-length: 2\r\n\r\nok", id="brotli"),
        pytest.param(b"HTTP/1.1 099 Odd\r\ncontent-length: 2\r\n\r\nok", id="status 099"),
        pytest.param(b"HTTP/1.1 000 Odd\r\ncontent-length: 2\r\n\r\nok", id="status 000"),
        pytest.param(b"HTTP/1.1 101 Switching\r\n\r\nok", id="status 101"),
        pytest.param(
            b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nok", id="another protocol"
        ),
    ],
)
def test_an_answer_whose_end_cannot_be_seen_is_refused_and_not_waited_for(serve, post, head):
    """The server keeps the connection open, so that to wait would be to wait for the whole time limit."""
    error = failure_of(serve, post, after_request(head, then="silence"))
    assert type(error) is TransportError
    assert "not valid HTTP" in str(error)


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
def test_a_server_that_falls_silent_is_a_timeout_and_not_a_failure_to_connect(serve, post, handler):
    error = failure_of(serve, post, handler, timeout=0.1)
    assert type(error) is RequestTimeout
    assert isinstance(error, TimeoutError)
    assert "0.1 s" in str(error)


def test_the_limit_is_for_the_whole_exchange_and_not_for_each_read(serve, post):
    async def drip(connection):
        await connection.request()
        await connection.write(CHUNKED)
        while not connection.reader.at_eof():
            await connection.write(b"1\r\na\r\n")
            await asyncio.sleep(0.01)

    assert type(failure_of(serve, post, drip, timeout=0.15)) is RequestTimeout


def test_a_refused_connection(post):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectError, match=f"127.0.0.1:{port}.*refused") as caught:
        asyncio.run(Transport().send(post(f"http://127.0.0.1:{port}"), timeout=60))
    assert_tells_no_secret(caught.value)


def test_an_unknown_host(post):
    with pytest.raises(ConnectError, match=r"no-such-host\.invalid.*host name") as caught:
        asyncio.run(Transport().send(post("http://no-such-host.invalid"), timeout=60))
    assert_tells_no_secret(caught.value)


def test_a_handshake_that_never_ends_is_a_failure_to_connect(serve, post):
    async def deaf(connection):
        await connection.closed()

    async def main():
        async with serve(deaf) as peer:
            with pytest.raises(ConnectError, match="timed out") as caught:
                await Transport(connect_timeout=0.1).send(post(peer.url.replace("http:", "https:")), timeout=60)
            assert_tells_no_secret(caught.value)

    asyncio.run(main())


@pytest.mark.parametrize("framing", ["content-length", "chunked", "gzip"])
def test_a_body_above_the_limit_is_not_read_on(serve, post, framing):
    """A hostile server would otherwise fill the memory: with gzip, from a thousandth of the bytes."""
    sent = []

    async def handler(connection):
        await connection.request()
        if framing == "gzip":
            squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
            start, piece = (squeeze.compress(bytes(1_000_000)) + squeeze.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
            await connection.write(OK + b"content-encoding: gzip\r\nconnection: close\r\n\r\n" + start)
        else:
            piece = b"%x\r\n%b\r\n" % (1_000_000, bytes(1_000_000))
            await connection.write(CHUNKED if framing == "chunked" else OK + b"content-length: 100000000000\r\n\r\n")
        for _ in range(100_000):
            await connection.write(piece)
            sent.append(len(piece))

    error = failure_of(serve, post, handler, max_body_bytes=2_000_000)
    assert "max_body_bytes" in str(error)
    assert sum(sent) < 20_000_000  # the rest was never taken from the socket


def test_a_body_of_exactly_the_limit_is_read(serve, post):
    async def handler(connection):
        await connection.request()
        await connection.reply(b"a" * 1000)

    async def main():
        async with serve(handler) as peer:
            return await Transport(max_body_bytes=1000).send(post(peer.url), timeout=60)

    assert len(asyncio.run(main()).body) == 1000
    assert "max_body_bytes" in str(failure_of(serve, post, handler, max_body_bytes=999))


@pytest.mark.parametrize(
    ("url", "headers", "said"),
    [
        ("api.example.com/v1?key=SECRET", {}, "https://"),
        ("ftp://api.example.com/?key=SECRET", {}, "api.example.com"),
        ("http://[broken?key=SECRET", {}, "https://"),
        ("http://127.0.0.1:1", {"x-api-key": "SECRET\n"}, "'x-api-key'.*control character"),
        ("http://127.0.0.1:1", {"authorization": "Bearer SECRET\r\nx: y"}, "'authorization'.*control character"),
        ("http://127.0.0.1:1", {"bad name": "SECRET"}, "'bad name' is not a header name"),
        ("http://user:SECRET@127.0.0.1:1/", {"x": "SECRET\x00"}, "'x' for 127.0.0.1:1 "),
    ],
)
def test_what_cannot_be_sent_is_named_without_its_value(url, headers, said):
    request = HttpRequest(method="POST", url=url, headers=headers, body=b"SECRET")
    with pytest.raises(ConfigError, match=said) as caught:
        asyncio.run(Transport().send(request, timeout=60))
    assert_tells_no_secret(caught.value)
