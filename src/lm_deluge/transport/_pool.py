"""The connections of one transport in one event loop.

They are closed with the loop (as it ends its asynchronous generators), with the transport, after a minute without use,
and when the transport is dropped.
"""

import asyncio
import contextlib
import functools
import weakref

from lm_deluge.errors import TransportError
from lm_deluge.transport._base import IDLE
from lm_deluge.transport._connection import Connection, Exchange
from lm_deluge.transport._deadlines import Deadlines
from lm_deluge.transport._dial import Dialler
from lm_deluge.transport._per_loop import when_loop_ends
from lm_deluge.transport._target import Origin
from lm_deluge.transport._words import transport_closed

__all__ = ["Pool"]

# Handshakes take some 2 ms of processor time each. More of them at once would hold up everything else in the loop.
_DIALLED_AT_ONCE = 32


class Pool:
    """Hands connections out and takes them back.

    Args:
        loop: the event loop that all of it runs in.
        dialler: opens connections.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, dialler: Dialler) -> None:
        self.loop = loop
        self.dialler = dialler
        self.deadlines = Deadlines(loop)
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._dialling = asyncio.Semaphore(_DIALLED_AT_ONCE)
        self._sweeping: asyncio.TimerHandle | None = None
        self._lost = self._open.discard  # and so a connection does not keep the pool
        self._guard = when_loop_ends(functools.partial(_abort_all, self._open))

    def exchange(self, origin: Origin, *, limit: int, streamed: bool) -> Exchange:
        """What the answer of one request goes into."""
        return Exchange(origin.label, limit=limit, streamed=streamed)

    async def take(self, origin: Origin) -> Connection:
        """A connection to a server, to be given back. Raises as :meth:`Dialler.connect` does."""
        if (idle := self.from_idle(origin)) is not None:
            return idle
        async with self._dialling if origin.scheme == "https" else contextlib.nullcontext():
            if (idle := self.from_idle(origin)) is not None:
                return idle  # given back meanwhile
            connection = await self.dialler.connect(origin, self._lost)
        self._open.add(connection)
        return connection

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """Keep a connection for the next request, if its exchange is complete; close it otherwise."""
        if not connection.release():
            return
        connection.idle_since = self.loop.time()
        self._idle.setdefault(origin, []).append(connection)
        if self._sweeping is None:
            self._sweep_later()

    def close(self) -> None:
        """Close all connections; requests in flight end with an error."""
        for connection in list(self._open):
            host = connection.host
            connection.abort(None if host is None else transport_closed(host))
        self._idle.clear()

    def from_idle(self, origin: Origin) -> Connection | None:
        """An idle connection, or None."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_open:
                return connection
        return None

    def _sweep_later(self) -> None:
        pool = weakref.ref(self)

        def sweep() -> None:
            alive = pool()
            if alive is not None:
                alive._sweep()

        self._sweeping = self.loop.call_later(IDLE / 4, sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        oldest = self.loop.time() - IDLE
        for origin, idle in list(self._idle.items()):
            kept = [connection for connection in idle if connection.is_open and connection.idle_since > oldest]
            for connection in set(idle).difference(kept):
                connection.abort()
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        if self._idle:
            self._sweep_later()


async def _abort_all(connections: set[Connection]) -> None:
    for connection in list(connections):
        connection.abort(
            TransportError("The event loop ended while a request was in flight. Keep it running until it is done.")
        )
