"""Connections of redis-py that keep the limits of an exchange, and read only replies that can be valid.

An invalid reply is refused at its first wrong byte: a size beyond the budget, a line without an end, arrays within
arrays. Only version 2 of the protocol is used: it has no maps, no pushes and no endless numbers. This module imports
redis-py, so it is imported only where there is a server.
"""

import builtins
import re
import ssl
import time
from collections.abc import Callable
from typing import Any

import redis
from redis.connection import DefaultParser
from redis.exceptions import ConnectionError, InvalidResponse, TimeoutError

from lm_deluge.cache.stores.redis.limits import Exchange, current_exchange

__all__ = ["ReplyTooLarge", "connection_class"]

_CONNECT_SECONDS = 3.0
_READ_BYTES = 64 * 1024
_LINE_BYTES = 64 * 1024
_DEPTH = 4  # the reply to a transaction that scans has three
_error_of: Callable[[str], Exception] = DefaultParser.parse_error
_NUMBER = re.compile(rb"-?[0-9]{1,19}")


class ReplyTooLarge(InvalidResponse):
    """A reply is longer than the limit."""


class _Parser:
    """Reads replies, for a connection of redis-py."""

    # redis-py gives each error its class, by its first word.
    EXCEPTION_CLASSES = DefaultParser.EXCEPTION_CLASSES

    def __init__(self, socket_read_size: int = _READ_BYTES) -> None:
        self._socket: Any = None
        self._buffer = bytearray()
        self._at = 0

    def on_connect(self, connection: Any) -> None:
        self._socket = connection._sock
        self._buffer, self._at = bytearray(), 0

    def on_disconnect(self) -> None:
        self._socket = None
        self._buffer, self._at = bytearray(), 0

    def can_read(self, timeout: float = 0) -> bool:
        """Whether something came that was not asked for, or the connection was closed."""
        if self._socket is None or self._at < len(self._buffer):
            return self._socket is not None
        self._socket.settimeout(timeout)
        try:
            received = self._socket.recv(_READ_BYTES)
        except (BlockingIOError, builtins.TimeoutError, ssl.SSLWantReadError):
            return False
        if not received:
            raise ConnectionError("the connection was closed")
        self._buffer += received
        return True

    def read_response(self, disable_decoding: bool = False, **_: object) -> Any:
        """The next reply: bytes, a number, None, a list of these, or an error of redis-py's."""
        limits = current_exchange()
        reply = self._reply(limits, 0)
        if self._at == len(self._buffer):
            self._buffer, self._at = bytearray(), 0
        return reply

    def _reply(self, limits: Exchange, depth: int) -> Any:
        line = self._line(limits)
        kind, rest = line[:1], line[1:]
        match kind:
            case b"$":
                size = _number(rest)
                return None if size == -1 else self._bytes(size, limits)
            case b":":
                return _number(rest)
            case b"+":
                return rest
            case b"*":
                return self._array(_number(rest), limits, depth)
            case b"-":
                error = _error_of(rest.decode("utf-8", "replace"))
                if isinstance(error, ConnectionError):
                    raise error
                return error
        raise InvalidResponse("something that is no reply")

    def _array(self, count: int, limits: Exchange, depth: int) -> list[Any] | None:
        if count == -1:
            return None
        if depth == _DEPTH:
            raise InvalidResponse("lists in lists in lists, which nothing is answered with")
        if not 0 <= count <= limits.elements:
            raise ReplyTooLarge(f"a list of {count:,} elements, more than is read")
        limits.elements -= count
        return [self._reply(limits, depth + 1) for _ in range(count)]

    def _line(self, limits: Exchange) -> bytes:
        looked = self._at
        while (end := self._buffer.find(b"\r\n", looked)) < 0:
            if len(self._buffer) - self._at > _LINE_BYTES:
                raise ReplyTooLarge("a line without an end")
            looked = max(len(self._buffer) - 1, self._at)
            self._receive(limits)
        line = bytes(self._buffer[self._at : end])
        self._at = end + 2
        return line

    def _bytes(self, size: int, limits: Exchange) -> bytes:
        if not 0 <= size <= limits.bytes + len(self._buffer):
            raise ReplyTooLarge(f"a value of {size:,} bytes, more than is read")
        if self._at > _READ_BYTES:  # so the buffer holds one value and what follows it, not all values
            looked, self._at = self._at, 0
            del self._buffer[:looked]
        end = self._at + size
        while len(self._buffer) < end + 2:
            self._receive(limits)
        if self._buffer[end : end + 2] != b"\r\n":
            raise InvalidResponse("a value of another length than it said")
        with memoryview(self._buffer) as view:
            value = bytes(view[self._at : end])
        self._at = end + 2
        return value

    def _receive(self, limits: Exchange) -> None:
        if self._socket is None:
            raise ConnectionError("the connection was closed")
        if time.monotonic() >= limits.end:
            raise TimeoutError("its answer took too long")
        self._socket.settimeout(limits.seconds)
        received = self._socket.recv(_READ_BYTES)
        if not received:
            raise ConnectionError("the connection was closed")
        limits.bytes -= len(received)
        if limits.bytes < 0:
            raise ReplyTooLarge("more bytes than are read")
        self._buffer += received


def _number(digits: bytes) -> int:
    if not _NUMBER.fullmatch(digits):
        raise InvalidResponse("a number that is none")
    return int(digits)


class _Limited:
    """A mixin for a class of redis-py's connections. It replaces the methods that wait."""

    _sock: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "parser_class": _Parser, "protocol": 2})
        # It saves two requests for each connection. Set here, because the arguments differ among versions of redis-py.
        self.driver_info = self.lib_name = self.lib_version = None

    @property
    def socket_timeout(self) -> float:
        return current_exchange().seconds

    @socket_timeout.setter
    def socket_timeout(self, value: object) -> None:
        """The exchange decides."""

    @property
    def socket_connect_timeout(self) -> float:
        return min(current_exchange().seconds, _CONNECT_SECONDS)

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: object) -> None:
        """The exchange decides."""

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        for item in [command] if isinstance(command, (str, bytes)) else command:
            if self._sock is not None:
                self._sock.settimeout(current_exchange().seconds)
            super().send_packed_command([item], check_health)  # type: ignore[misc]


class _TCPConnection(_Limited, redis.Connection):  # type: ignore[misc]
    pass


class _TLSConnection(_Limited, redis.SSLConnection):  # type: ignore[misc]
    pass


class _UnixConnection(_Limited, redis.UnixDomainSocketConnection):  # type: ignore[misc]
    pass


_KINDS = {"redis": _TCPConnection, "rediss": _TLSConnection, "unix": _UnixConnection}


def connection_class(scheme: str) -> Any:
    """The connections for an address of that scheme."""
    return _KINDS[scheme]
