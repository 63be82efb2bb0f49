"""Who fetches an answer, when several want the same one: leases in one process, and keeping those that are held."""

import asyncio
import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Sequence

from lm_deluge.cache.stores import LeaseStore
from lm_deluge.cache.stores._leases import Leases

__all__ = ["LEASE_SECONDS", "InProcessLeases", "LeaseKeeper"]

LEASE_SECONDS = 6.0
"""How long a lease lasts that nobody renews: a holder that died is replaced within this time."""

_RENEWALS = 3  # in the life of a lease


class InProcessLeases:
    """Leases among the threads of this process, for stores that offer none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases = Leases()

    def acquire(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        with self._lock:
            return self._leases.acquire(keys, holder, now=now, seconds=seconds)

    def renew(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        with self._lock:
            return self._leases.renew(keys, holder, now=now, seconds=seconds)

    def release(self, keys: Sequence[bytes], holder: bytes) -> None:
        with self._lock:
            self._leases.release(keys, holder)


class LeaseKeeper:
    """The leases of one client on one event loop.

    What is asked in one pass of the event loop goes to the store together, and what is held is renewed until it is
    released, by a task that lives only as long as something is held. Time is the machine's own, whatever clock the
    client has: leases are an agreement with others.
    """

    def __init__(self, store: LeaseStore, *, seconds: float = LEASE_SECONDS) -> None:
        self._store = store
        self._seconds = seconds
        # Readable for whoever looks into the store; unique because of its last part.
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}".encode()
        self._wanted: list[tuple[bytes, asyncio.Future[bool]]] = []
        self._returned: list[bytes] = []
        self._held: set[bytes] = set()
        self._asking: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def acquire(self, key: bytes) -> bool:
        """Whether the lease is ours now.

        Raises:
            Exception: whatever the store raises.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._wanted.append((key, future))
        self._ask()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None and future.result():
                self.release(key)  # it came in the moment in which its waiter was cancelled
            raise

    def release(self, key: bytes) -> None:
        """Give a lease back, soon."""
        self._held.discard(key)
        self._returned.append(key)
        self._ask()

    async def flush(self) -> None:
        """Return once what was released is given back."""
        while self._asking is not None:
            await asyncio.wait([self._asking])
        if not self._held and self._renewing is not None:
            self._renewing.cancel()

    def _ask(self) -> None:
        if self._asking is None:
            self._asking = asyncio.create_task(self._talk())

    async def _talk(self) -> None:
        try:
            while self._wanted or self._returned:
                returned, self._returned = self._returned, []
                wanted, self._wanted = self._wanted, []
                await self._exchange(returned, wanted)
        finally:
            self._asking = None

    async def _exchange(self, returned: list[bytes], wanted: list[tuple[bytes, asyncio.Future[bool]]]) -> None:
        keys = [key for key, _ in wanted]
        now = time.time()

        def ask() -> list[bool]:
            if returned:
                self._store.release(returned, self._holder)
            return self._store.acquire(keys, self._holder, now=now, seconds=self._seconds) if keys else []

        try:
            outcome = await asyncio.to_thread(ask)
        except Exception as error:  # noqa: BLE001 - whoever waits is told; a lease that is not given back runs out
            for _, future in wanted:
                if not future.done():
                    future.set_exception(error)
            return
        for (key, future), got in zip(wanted, outcome, strict=True):
            if not future.done():
                future.set_result(got)
                if got:
                    self._held.add(key)
            elif got:
                self._returned.append(key)  # its waiter was cancelled meanwhile
        if self._held and self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        try:
            while self._held:
                await asyncio.sleep(self._seconds / _RENEWALS)
                keys, now = list(self._held), time.time()
                # If it fails, at worst another asks as well; and the next renewal may succeed.
                with contextlib.suppress(Exception):
                    await asyncio.to_thread(self._store.renew, keys, self._holder, now=now, seconds=self._seconds)
        finally:
            self._renewing = None
