"""One HTTP/1.1 connection: a request goes out, an answer is read, and then perhaps the next request.

The parser is llhttp (``httptools``), which is strict. What it hands over is counted: a head that does not end, and a
body above the limit, close the connection.
"""

import asyncio
import zlib
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from lm_deluge.errors import TransportError
from lm_deluge.transport._framing import UnreadableError, is_compressed
from lm_deluge.transport._words import dropped, not_http, too_large

__all__ = ["Connection", "Exchange"]

_MAX_HEAD = 64 * 1024
_MAX_FIELDS = 256
_HIGH_WATER = 64 * 1024  # what a slow reader of a stream lets pile up
_JOINED = 64 * 1024  # bodies up to this size go out in one piece with their head
_MOST_PIECES = 4096
_MOST_MEMBERS = 256  # of a compressed body
_INTERIM = frozenset({100, *range(102, 200)})  # 101 is the last of HTTP on its connection
_BODILESS = frozenset({204, 304})


class Exchange:
    """A request's answer while it arrives.

    Args:
        host: what messages call the server.
        limit: the largest body, decoded.
        streamed: wake the reader for each piece, and hold the server back while the reader is slow.

    Attributes:
        status: the HTTP status; 0 before the head has arrived.
        fields: the headers as they came.
        complete: whether all of it has arrived.
        reusable: whether the connection may serve another request.
    """

    __slots__ = (
        "_failure",
        "_inflate",
        "_pause",
        "_pieces",
        "_piled",
        "_size",
        "_streamed",
        "_waiter",
        "complete",
        "fields",
        "host",
        "limit",
        "reusable",
        "status",
    )

    def __init__(self, host: str, *, limit: int, streamed: bool) -> None:
        self.host = host
        self.limit = limit
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.reusable = False
        self._streamed = streamed
        self._pieces: deque[bytes] = deque()
        self._piled = 0  # bytes in them
        self._size = 0
        self._inflate: _Inflate | None = None
        self._failure: TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._pause: Callable[[bool], None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.complete or self._failure is not None

    async def head(self) -> None:
        """Wait for the status and the headers. Raises ``TransportError``."""
        while not self.status and not self.ended:
            await self._next()
        if not self.status:
            self._raise()  # otherwise what has come of the body is handed over first

    async def body(self) -> bytes:
        """Wait for all of the body. Raises ``TransportError``."""
        while not (self.complete or self._failure is not None):
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.whole()

    def whole(self) -> bytes:
        """All of the body, once that has arrived. Raises ``TransportError``."""
        self._raise()
        pieces = self._pieces
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def piece(self) -> bytes | None:
        """Wait for more of the body; None at its end. Raises ``TransportError`` once what came before it is taken."""
        while not self._pieces and not self.ended:
            if self._pause is not None:
                self._pause(False)
            await self._next()
        if self._pieces:
            found = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces.clear()
            self._piled = 0
            return found
        self._raise()
        return None

    def begin(self, status: int, pause: Callable[[bool], None]) -> None:
        """The head is complete."""
        try:
            if is_compressed(status, self.fields):
                self._inflate = _Inflate()
        except UnreadableError as error:
            return self.fail(not_http(self.host, str(error)))
        self.status = status
        self._pause = pause
        if self._streamed:
            self._wake()
        return None

    @property
    def until_closed(self) -> bool:
        """Whether the body ends where the connection does."""
        chunked = self._field(b"transfer-encoding").endswith(b"chunked")
        return bool(self.status) and not (chunked or self._field(b"content-length") or self.status in _BODILESS)

    def _field(self, wanted: bytes) -> bytes:
        """A header's value in lower case; empty if there is none."""
        length, found = len(wanted), b""
        for name, value in self.fields:
            if len(name) == length and name.lower() == wanted:
                found = value.strip().lower()
        return found

    def add(self, data: bytes) -> None:
        """More of the body."""
        if self.ended:
            return
        if self._inflate is not None:
            try:
                data = self._inflate.feed(data, self.limit - self._size)
            except zlib.error:
                return self.fail(not_http(self.host, "its body is not in the encoding that its headers say"))
        self._size += len(data)
        if self._size > self.limit:
            return self.fail(too_large(self.host, self.limit))
        if data:
            self._pieces.append(data)
            self._piled += len(data)
            if len(self._pieces) > _MOST_PIECES:  # each costs some forty bytes besides its own
                joined = b"".join(self._pieces)
                self._pieces.clear()
                self._pieces.append(joined)
            if self._streamed:
                if self._pause is not None and self._piled > _HIGH_WATER:
                    self._pause(True)
                self._wake()
        return None

    def finish(self, *, reusable: bool) -> None:
        """All has arrived."""
        if self.ended:
            return
        if self._inflate is not None and not self._inflate.is_whole:
            return self.fail(dropped(self.host, "its compressed body ends too early"))
        self.complete = True
        self.reusable = reusable
        self._wake()
        return None

    def fail(self, error: TransportError) -> None:
        """No more will come, for ``error``. What ended before stays as it is."""
        if not self.ended:
            self._failure = error
            self._wake()

    async def _next(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure


class Connection(asyncio.Protocol):
    """A connection to one server, for one event loop.

    Args:
        lost: called once, when the connection is closed.
    """

    def __init__(self, lost: "Callable[[Connection], None]") -> None:
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._exchange: Exchange | None = None
        self._head_size = 0
        self._trailers = 0
        self._fields: list[tuple[bytes, bytes]] = []
        self._paused = False
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it can take a request."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, head: bytes, body: bytes, exchange: Exchange) -> None:
        """Send a request. Its answer goes into ``exchange``."""
        transport = self._transport
        if transport is None:
            return exchange.fail(dropped(exchange.host, None))
        self._exchange = exchange
        if exchange.ended:
            return None  # its time ended while it was being connected, and its caller has gone
        self._head_size = self._trailers = 0
        self._fields = exchange.fields
        self._parser = httptools.HttpResponseParser(self)  # nothing of an answer before it can be left in a new one
        if len(body) <= _JOINED:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        return None

    def release(self) -> bool:
        """Let go of the exchange. Returns whether another may follow; otherwise the connection is closed."""
        exchange, self._exchange = self._exchange, None
        transport = self._transport
        if exchange is None or transport is None:
            return False
        if exchange.complete and exchange.reusable and self.is_open and not transport.get_write_buffer_size():
            self._pause(False)
            return True
        self.abort()
        return False

    def abort(self, error: TransportError | None = None) -> None:
        """Close the connection at once; a request in flight ends with ``error``."""
        if self._exchange is not None and error is not None:
            self._exchange.fail(error)
        if self._transport is not None:
            self._transport.abort()

    @property
    def host(self) -> str | None:
        """The server of the request in flight, as messages call it."""
        return None if self._exchange is None else self._exchange.host

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        exchange = self._exchange
        if exchange is not None and not exchange.ended:
            if exchange.until_closed and error is None:
                exchange.finish(reusable=False)
            else:
                exchange.fail(dropped(exchange.host, error))
        self._transport = self._parser = None  # they refer to this object
        self._lost(self)

    def data_received(self, data: bytes) -> None:
        exchange, parser = self._exchange, self._parser
        if exchange is None or exchange.ended or parser is None:
            return self.abort()  # it was not asked for
        if not exchange.status:
            self._head_size += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            exchange.fail(not_http(exchange.host, "it switches to another protocol"))
        except httptools.HttpParserError as error:
            exchange.reusable = False  # what follows a complete answer belongs to none
            exchange.fail(not_http(exchange.host, str(error).rstrip(".") or "it cannot be read"))
        if not exchange.status and self._head_size > _MAX_HEAD:
            exchange.fail(not_http(exchange.host, f"its head is longer than {_MAX_HEAD:,} bytes"))
        if exchange.ended and not exchange.complete:
            self.abort()
        return None

    # What the parser calls. An exception here would be lost in it.

    def on_message_begin(self) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.complete:
            exchange.reusable = False  # a second answer to one request: it must not become the next one's

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self._exchange
        if exchange is None or exchange.ended:
            return
        if not exchange.status:
            self._fields.append((name, value))
            return
        self._trailers += len(name) + len(value)  # behind the body: they are not read
        if self._trailers > _MAX_HEAD:
            exchange.fail(not_http(exchange.host, f"its trailers are longer than {_MAX_HEAD:,} bytes"))

    def on_headers_complete(self) -> None:
        parser, exchange = self._parser, self._exchange
        if parser is None or exchange is None or exchange.ended:
            return
        status = parser.get_status_code()
        if len(self._fields) > _MAX_FIELDS:
            exchange.fail(not_http(exchange.host, f"it has more than {_MAX_FIELDS} headers"))
        elif status in _INTERIM:
            self._fields.clear()  # the real answer follows
        else:
            exchange.begin(status, self._pause)

    def on_body(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.add(data)

    def on_message_complete(self) -> None:
        parser, exchange = self._parser, self._exchange
        if parser is not None and exchange is not None and exchange.status:
            exchange.finish(reusable=parser.should_keep_alive())

    def _pause(self, wanted: bool) -> None:
        if wanted != self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = wanted
            if wanted:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()


class _Inflate:
    """gzip, or zlib: which of them, the data says."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(47)
        self._has_begun = False
        self._members = 1

    @property
    def is_whole(self) -> bool:
        return self._stream.eof or not self._has_begun

    def feed(self, data: bytes, room: int) -> bytes:
        """Decoded bytes: all that ``data`` holds, or more than ``room``."""
        decoded = b""
        self._has_begun = self._has_begun or bool(data)
        while data and len(decoded) <= room:
            if self._stream.eof:
                self._stream = zlib.decompressobj(47)  # another member follows
                self._members += 1
                if self._members > _MOST_MEMBERS:
                    raise zlib.error("too many members")
            decoded += self._stream.decompress(data, room + 1 - len(decoded))
            data = self._stream.unused_data if self._stream.eof else b""
        return decoded
