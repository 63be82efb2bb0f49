"""What the checks of transports share: making one, running a loop, requests full of secrets, what is wrong."""

import asyncio
import contextlib
import functools
import ssl
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from lm_deluge.errors import TransportError
from lm_deluge.testing._transport_peer import Connection, Handler, Received, serve
from lm_deluge.transport import Transport
from lm_deluge.wire import HttpRequest, HttpResponse

__all__ = [
    "CHUNKED",
    "OK",
    "Checks",
    "after_request",
    "assert_no_secret",
    "caught",
    "chunk",
    "descriptors",
    "in_loop",
    "post",
    "replying",
]

T = TypeVar("T")

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"

_SECONDS = 120.0  # no check takes as long, on however busy a machine
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class Checks:
    """How a subclass makes its transport, and what may be expected of it. See ``TransportConformance``."""

    takes: ClassVar[frozenset[str]] = frozenset({"ca_file", "connect_timeout", "max_body_bytes", "proxy", "trust_env"})
    loops: ClassVar[frozenset[str]] = frozenset({"asyncio", "uvloop"})
    keeps_pieces: ClassVar[bool] = True

    _kind_of_loop = "asyncio"

    def make(self, **settings: Any) -> Transport:
        """The transport under test, with these settings, each of which is in ``takes``."""
        raise NotImplementedError(f"{type(self).__name__} needs make(self, **settings), which makes its transport.")

    def says(self, error: BaseException, pattern: str) -> None:
        """Called with an error and what ours says in its place. Yours may say it in other words."""

    @pytest.fixture(autouse=True, params=["asyncio", "uvloop"])
    def _loop(self, request: pytest.FixtureRequest) -> None:
        if request.param not in self.loops:
            pytest.skip(f"loops leaves {request.param} out")
        if request.param == "uvloop":
            pytest.importorskip("uvloop")
        self._kind_of_loop = request.param

    @pytest.fixture(autouse=True)
    def _no_outside_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in _PROXY_VARIABLES:
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)

    def made(self, **settings: Any) -> Transport:
        """A transport with these settings. Skips the check if there is one that it does not take."""
        self.needs(*settings)
        return self.make(**settings)

    def needs(self, *settings: str) -> None:
        """Skip the check if the transport does not take these settings."""
        for name in settings:
            if name not in self.takes:
                pytest.skip(f"takes has no {name}")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work`` in a loop of its own."""

        async def limited() -> T:
            limit = asyncio.timeout(_SECONDS)
            try:
                async with limit:
                    return await work
            except TimeoutError as error:
                if limit.expired():
                    raise AssertionError(f"the check did not end within {_SECONDS:g} s") from error
                raise

        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            return runner.run(limited())

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        if self._kind_of_loop == "uvloop":
            import uvloop

            return uvloop.new_event_loop()
        return asyncio.new_event_loop()

    @contextlib.asynccontextmanager
    async def facing(
        self, handler: Handler, *, tls: ssl.SSLContext | None = None, **settings: Any
    ) -> AsyncIterator[tuple[Transport, str]]:
        """A transport, and the URL of a peer that plays ``handler``. Both end with the block."""
        transport = self.made(**settings)
        async with serve(handler, tls=tls) as peer:
            try:
                yield transport, peer.url
            finally:
                await transport.aclose()

    def answer(self, handler: Handler, *, body: bytes = b"{}", limit: float = 60, **settings: Any) -> HttpResponse:
        """The answer to one request to a peer that plays ``handler``."""

        async def main() -> HttpResponse:
            async with self.facing(handler, **settings) as (transport, url):
                return await transport.send(post(url, body=body), timeout=limit)

        return self.run(main())

    def failure(self, handler: Handler, *, limit: float = 60, **settings: Any) -> TransportError:
        """The exception that one request to a peer that plays ``handler`` ends with."""

        async def main() -> TransportError:
            async with self.facing(handler, **settings) as (transport, url):
                with caught(TransportError) as errors:
                    await transport.send(post(url), timeout=limit)
                self.says(errors[0], url.removeprefix("http://"))
                return errors[0]

        return self.run(main())


def in_loop(check: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A check that runs in a loop of its own."""

    @functools.wraps(check)
    def run(self: Checks, *arguments: Any, **named: Any) -> None:
        self.run(check(self, *arguments, **named))

    return run


E = TypeVar("E", bound=BaseException)


@contextlib.contextmanager
def caught(kind: type[E]) -> Iterator[list[E]]:
    """Puts the exception that the block raises into the list. Fails if there is none, or if it tells a secret."""
    errors: list[E] = []
    try:
        yield errors
    except kind as error:
        errors.append(error)
    except Exception as error:
        raise AssertionError(f"a {kind.__name__} was expected, and {error!r} was raised") from error
    if not errors:
        raise AssertionError(f"a {kind.__name__} was expected, and nothing was raised")
    assert_no_secret(errors[0])


def assert_no_secret(error: BaseException) -> None:
    """Nothing of a credential, a query or a body: not in the text, the arguments or any chained exception."""
    shown = "".join(traceback.format_exception(error))
    each: BaseException | None = error
    while each is not None:
        shown += repr(each) + repr(each.args)
        each = each.__cause__ or each.__context__
    if "SECRET" in shown:
        raise AssertionError(f"the error repeats what was sent: {shown}")


def post(url: str, *, body: bytes = b'{"prompt":"SECRET-body"}', path: str = "/v1/messages") -> HttpRequest:
    """A request that holds ``SECRET`` in every place where a credential or a prompt can be."""
    return HttpRequest(
        method="POST",
        url=f"{url}{path}?key=SECRET-query",
        headers={"x-api-key": "SECRET-header", "content-type": "application/json"},
        body=body,
    )


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body; the last one if it is empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def replying(body: bytes | None = b"ok", *, seen: list[Received] | None = None, **reply: str) -> Handler:
    """A part: give each request the same answer, or with None its own body, and keep what was asked in ``seen``."""

    async def handler(connection: Connection) -> None:
        while True:
            request = await connection.request()
            if seen is not None:
                seen.append(request)
            await connection.reply(request.body if body is None else body, **reply)

    return handler


def after_request(*written: bytes, then: str = "close") -> Handler:
    """A part: read the request, write bytes, and then close, reset or say no more."""

    async def handler(connection: Connection) -> None:
        await connection.request()
        for data in written:
            await connection.write(data)
        if then == "silence":
            await connection.closed()
        elif then == "reset":
            connection.writer.transport.abort()

    return handler


def descriptors() -> int | None:
    """How many descriptors this process has open; None where that cannot be seen."""
    for place in (Path("/proc/self/fd"), Path("/dev/fd")):
        if place.is_dir():
            return len(list(place.iterdir()))
    return None
