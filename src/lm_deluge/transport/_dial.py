"""From a host name to an open connection: look-up, TCP, a tunnel through a proxy, TLS.

However an attempt ends, its socket is closed with it. Threads that look names up are daemons of their own, so neither
a full executor nor a name server that is silent holds anything else up.
"""

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

from lm_deluge.errors import ConnectError, LMDelugeError
from lm_deluge.transport._base import Settings
from lm_deluge.transport._connection import Connection
from lm_deluge.transport._off_loop import off_loop
from lm_deluge.transport._proxies import Proxy
from lm_deluge.transport._target import Origin
from lm_deluge.transport._tls import LoopContext
from lm_deluge.transport._words import no_connection

__all__ = ["Dialler"]

Address = tuple[socket.AddressFamily, Any]

_HEAD_START = 0.25  # seconds before the next address is tried beside the one before (RFC 8305)
_REMEMBERED = 10.0  # seconds that an address stands for its name
_MAX_TUNNEL_HEAD = 16 * 1024


class Dialler:
    """Opens connections for one event loop.

    Args:
        settings: what certificates are verified with, which proxy a request goes through, and the time for all of it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
        self._loop = loop
        self._tls = LoopContext(loop, settings.trust)
        self._proxies = settings.proxies
        self._connect_timeout = settings.connect_timeout
        self._addresses: dict[tuple[str, int], tuple[float, asyncio.Future[list[Address]]]] = {}

    async def connect(self, origin: Origin, lost: Callable[[Connection], None]) -> Connection:
        """An open connection.

        Raises:
            ConnectError: there is none to be had.
            ConfigError: the certificates to trust cannot be read.
        """
        proxy = self._proxies.choose(origin)
        failed: LMDelugeError
        limit = asyncio.timeout(self._connect_timeout)
        try:
            async with limit:
                return await self._connect(origin, proxy, lost)
        except LMDelugeError:
            raise
        except TimeoutError as error:
            reason = f"timed out after {self._connect_timeout:g} s" if limit.expired() else error
            failed = no_connection(origin.label, reason, through_proxy=proxy is not None)
        except OSError as error:  # ssl.SSLError is one
            failed = no_connection(origin.label, error, through_proxy=proxy is not None)
        raise failed

    async def _connect(self, origin: Origin, proxy: Proxy | None, lost: Callable[[Connection], None]) -> Connection:
        first = origin if proxy is None else proxy.origin
        sock = await self._race(await self._look_up(first.host, first.port))
        try:
            outer = await self._tls.get() if first.scheme == "https" else None
            inner_tls = await self._tls.get() if proxy is not None and origin.scheme == "https" else None
        except BaseException:
            sock.close()
            raise
        name = first.host if outer is not None else None
        if proxy is None or inner_tls is None:
            _, connection = await self._loop.create_connection(
                lambda: Connection(lost), sock=sock, ssl=outer, server_hostname=name
            )
            return connection
        transport, tunnel = await self._loop.create_connection(_Tunnel, sock=sock, ssl=outer, server_hostname=name)
        try:
            await tunnel.open(origin, proxy)
            connection = Connection(lost)
            inner = await self._loop.start_tls(transport, connection, inner_tls, server_hostname=origin.host)
            if inner is None:
                raise ConnectionResetError
            connection.connection_made(inner)
        except BaseException:
            transport.abort()
            raise
        return connection

    async def _look_up(self, host: str, port: int) -> list[Address]:
        key, now = (host, port), self._loop.time()
        known = self._addresses.get(key)
        if known is None or known[0] < now or (known[1].done() and known[1].exception() is not None):
            known = (now + _REMEMBERED, off_loop(self._loop, lambda: _addresses(host, port)))
            self._addresses[key] = known
        return await asyncio.shield(known[1])

    async def _race(self, addresses: Sequence[Address]) -> socket.socket:
        """A socket connected to the first address that answers. The order is the system's."""
        if len(addresses) == 1:
            return await self._attempt(addresses[0])
        failure: OSError | None = None
        attempts: list[asyncio.Task[socket.socket]] = []
        won: socket.socket | None = None
        try:
            left = list(addresses)
            while won is None and (left or attempts):
                if left:
                    attempts.append(asyncio.ensure_future(self._attempt(left.pop(0))))
                done, _ = await asyncio.wait(
                    attempts, timeout=_HEAD_START if left else None, return_when=asyncio.FIRST_COMPLETED
                )
                for attempt in done:
                    attempts.remove(attempt)
                    error = attempt.exception()
                    if error is None and won is None:
                        won = attempt.result()
                    elif error is None:
                        attempt.result().close()
                    elif isinstance(error, OSError):
                        failure = failure or error
                    else:
                        raise error
        finally:
            for attempt in attempts:
                attempt.cancel()
                attempt.add_done_callback(_close_late)
        if won is None:
            raise failure or OSError("no address")
        return won

    async def _attempt(self, address: Address) -> socket.socket:
        family, where = address
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
            await _connect(self._loop, sock, where)
        except BaseException:
            sock.close()
            raise
        return sock


async def _connect(loop: asyncio.AbstractEventLoop, sock: socket.socket, address: Any) -> None:
    # uvloop's ``sock_connect`` looks the address up once more, in libuv's threads. A child that is forked meanwhile
    # inherits the count of busy threads without the threads, and its own look-ups may wait for ever.
    if sys.platform == "win32":  # has no add_writer, and no fork either
        return await loop.sock_connect(sock, address)
    error = sock.connect_ex(address)
    if error in (errno.EINPROGRESS, errno.EINTR):
        connected: asyncio.Future[None] = loop.create_future()

        def writable() -> None:
            if not connected.done():
                connected.set_result(None)

        loop.add_writer(sock, writable)
        try:
            await connected
        finally:
            loop.remove_writer(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


class _Tunnel(asyncio.Protocol):
    """Asks a proxy to pass bytes through to a server."""

    def __init__(self) -> None:
        self._answer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if (b"\r\n\r\n" in self._answer or len(self._answer) > _MAX_TUNNEL_HEAD) and not self._answered.done():
            self._answered.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._answered.done():
            self._answered.set_exception(error or ConnectionResetError())
            self._answered.exception()  # read, so that asyncio does not report it too

    async def open(self, origin: Origin, proxy: Proxy) -> None:
        """Raises ``ConnectError`` if the proxy does not."""
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        where = f"{host}:{origin.port}"
        if self._transport is None:
            raise ConnectionResetError
        self._transport.write(f"CONNECT {where} HTTP/1.1\r\nhost: {where}\r\n{proxy.lines}\r\n".encode())
        await self._answered
        head, end, _ = bytes(self._answer).partition(b"\r\n\r\n")
        version, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        status = rest[:3].decode("latin-1")
        if not (end and version.startswith(b"HTTP/1.") and status.isdigit()):
            raise ConnectError(f"No connection to {origin.label}: its proxy's answer is not HTTP. Check the proxy.")
        if status == "407":
            raise ConnectError(
                f"No connection to {origin.label}: the proxy {proxy.origin.label} asks for a user and a password. Give "
                "them in the proxy's URL."
            )
        if not status.startswith("2"):
            raise ConnectError(
                f"No connection to {origin.label}: the proxy {proxy.origin.label} refused it with status {status}. "
                "Check the base URL and the proxy settings."
            )


def _addresses(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, where) for family, _, _, _, where in found))


def _close_late(attempt: "asyncio.Task[socket.socket]") -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
