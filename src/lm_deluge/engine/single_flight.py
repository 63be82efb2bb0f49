"""Single flight: identical prompts share one call.

On one event loop the first of them asks, and the others wait for its answer. Among threads and processes that share a
cache, a lease in the cache's store says who asks; the others look from time to time whether it is free, and find the
answer in the cache when it is. A holder that dies stops renewing its lease, and another takes over.

A failure is not shared. After one, twice as many of those who wait on this loop may ask by themselves, and so may
every other loop and process. So one bad moment costs few calls more, and a prompt that always fails does not keep a
thousand duplicates waiting for each other.
"""

import asyncio
import contextlib
import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from lm_deluge import _overdue as overdue
from lm_deluge.cache.leases import LEASE_SECONDS, LeaseKeeper
from lm_deluge.engine.item import Item
from lm_deluge.engine.local_cache import LocalCache, raise_if_cancelled
from lm_deluge.response import APIResponse

__all__ = ["Flights", "SingleFlight"]

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 0.5


class _Flight:
    """Who asks for one answer on this event loop, and who waits."""

    def __init__(self) -> None:
        self.asking = 0
        self.allowed = 1
        self.waiting = 0
        self.answer: APIResponse | None = None
        self.changed = asyncio.Event()

    def wake(self) -> None:
        """Let all who wait look again."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class Flights:
    """The answers that a client is asking for on one event loop, by key."""

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight] = {}

    async def join(
        self, key: bytes, *, on_wait: Callable[[int], None], patience: float
    ) -> APIResponse | Literal["first", "further", "tired"]:
        """The answer that another prompt got. Otherwise the caller is to ask, as the first one or besides others, and
        to call ``finish``.

        Args:
            key: of the answer.
            on_wait: called with 1 when the caller starts to wait, and with -1 when that is over.
            patience: seconds after which the caller is ``"tired"`` of waiting, and asks besides others.
        """
        until = time.monotonic() + patience
        while True:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = _Flight()
            if flight.answer is not None:
                return flight.answer
            if flight.asking < flight.allowed:
                flight.asking += 1
                return "first" if flight.asking == 1 else "further"
            flight.waiting += 1
            on_wait(1)
            try:
                async with asyncio.timeout(max(until - time.monotonic(), 0.0)):
                    await flight.changed.wait()
            except TimeoutError:
                if flight.answer is None:
                    flight.asking += 1
                    return "tired"
            except asyncio.CancelledError:
                if flight.waiting == 1 and not flight.asking and self._flights.get(key) is flight:
                    del self._flights[key]
                raise
            finally:
                on_wait(-1)
                flight.waiting -= 1
            if flight.answer is not None:
                return flight.answer

    def finish(self, key: bytes, answer: APIResponse | None, *, failed: bool = False) -> None:
        """One who asked is done: with an answer for all, without, or in a way that counts as a failure."""
        flight = self._flights[key]
        flight.asking -= 1
        flight.answer = flight.answer or answer
        if failed:
            flight.allowed *= 2
        flight.wake()
        # Those who wait hold the flight itself, so it may go from the table once its answer is there.
        if not flight.asking and (flight.answer is not None or not flight.waiting):
            del self._flights[key]


class SingleFlight:
    """How one run shares its calls.

    Args:
        flights: those of the client on this event loop.
        keeper: leases among all who share the cache; None where there is none.
        local: the cache.
        salt: what else must agree, beside the answer's key, for prompts of several runs to share a call.
        on_wait: called with 1 when a prompt starts to wait for another's answer, and with -1 when that is over.
        patience: seconds after which a prompt that waits for another's answer asks by itself.
    """

    def __init__(
        self,
        flights: Flights,
        keeper: LeaseKeeper | None,
        local: LocalCache,
        *,
        salt: bytes,
        on_wait: Callable[[int], None],
        patience: float,
    ) -> None:
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._flights = flights
        self._keeper = keeper
        self._local = local
        self._salt = salt
        self._on_wait = on_wait

    async def answer(self, item: Item, ask: Callable[[Item], Awaitable[APIResponse]]) -> APIResponse:
        """The answer that another prompt got, or that ``ask`` gives."""
        key = self._local.key(item)
        flight = key + self._salt
        shared = await self._flights.join(flight, on_wait=self._on_wait, patience=self._patience)
        if isinstance(shared, APIResponse):
            return self._hit(item.hit(shared))
        if shared == "tired":
            self._local.waited_too_long(self._patience)
        response: APIResponse | None = None
        try:
            response = await (self._leased(item, key, ask) if shared == "first" else ask(item))
            return response
        finally:
            if response is not None or item.arrival is None:
                self._finish(flight, item, response)
            else:  # its answer came although it was cancelled
                item.arrival.when_stored(lambda: self._finish_later(flight, item))

    def _finish_later(self, flight: bytes, item: Item) -> None:
        """``_finish`` from any thread."""
        response = None if item.arrival is None else item.arrival.response
        with contextlib.suppress(RuntimeError):  # the loop is closed, so none wait
            self._loop.call_soon_threadsafe(self._finish, flight, item, response)

    def _finish(self, flight: bytes, item: Item, response: APIResponse | None) -> None:
        good = response is not None and (item.admitted or response.local_cache_hit)
        self._flights.finish(flight, response if good else None, failed=response is not None and not good)

    async def _leased(self, item: Item, key: bytes, ask: Callable[[Item], Awaitable[APIResponse]]) -> APIResponse:
        keeper = self._keeper
        if keeper is None:
            return await ask(item)
        lease = await self._lease(keeper, key)
        if lease == "none":
            return await ask(item)
        if lease == "tired":
            self._local.waited_too_long(self._patience)
            return await ask(item)
        holds = True
        keeps = False

        def keep() -> None:
            # In any thread: the event loop may be over by now. The lease is kept until the answer is stored.
            nonlocal keeps
            if holds and item.admitted and item.arrival is not None:
                keeps = True
                keeper.answered(key)
                item.arrival.when_stored(lambda: keeper.release(key))

        item.on_answer = keep
        try:
            # Between the first look and the lease another may have asked, and stored what it got; or its loop has ended
            # before it could.
            overdue.settle_abandoned()
            found = await self._local.look_again(item)
            if found is not None:
                return self._hit(found)
            if lease == "waited" and await self._has_failed(keeper, key):
                # The holder of the lease has failed. From here on each asks by itself, for else all who share the
                # cache would fail one after another.
                keeper.release(key)
                holds = False
            response = await ask(item)
            if holds and not item.admitted and not response.local_cache_hit:
                await self._note_failure(keeper, key)
            return response
        finally:
            # An answer that has come and was not settled, because the loop has ended, is settled by a thread.
            if item.arrival is None or item.arrival.is_settled:
                item.on_answer = None
                if holds and not keeps:
                    keeper.release(key)
            if keeper.trouble is not None:
                self._local.failed("a lease of single flight could not be renewed", keeper.trouble)
                keeper.trouble = None

    async def _has_failed(self, keeper: LeaseKeeper, key: bytes) -> bool:
        """Whether the last holder has left a note, rather than died or been cancelled."""
        if not await self._note_failure(keeper, key):
            return True
        keeper.release(_failure_of(key))
        return False

    async def _note_failure(self, keeper: LeaseKeeper, key: bytes) -> bool:
        """Leave a note that runs out by itself; False if another has left one."""
        try:
            return await _acquired(keeper, _failure_of(key), renew=False)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - without notes, others may wait longer
            raise_if_cancelled(error)
            self._local.failed("a note for single flight could not be left", error)
            return True

    async def _lease(self, keeper: LeaseKeeper, key: bytes) -> Literal["free", "waited", "tired", "none"]:
        """Wait for the lease: it was free, or it was another's before. Tired if that took too long, none if the store
        fails or does not answer."""
        wait = _FIRST_WAIT
        waiting = False
        until = time.monotonic() + self._patience
        try:
            while not await _acquired(keeper, key):
                if not waiting:
                    waiting = True
                    self._on_wait(1)
                if time.monotonic() > until:
                    return "tired"
                await asyncio.sleep(wait * random.uniform(0.75, 1.25))
                wait = min(2 * wait, _LONGEST_WAIT)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - without leases, calls are not shared
            raise_if_cancelled(error)
            self._local.failed("a lease of single flight could not be had", error)
            self._keeper = None  # so the rest of the run does not wait for it as well
            return "none"
        finally:
            if waiting:
                self._on_wait(-1)
        return "waited" if waiting else "free"

    def _hit(self, response: APIResponse) -> APIResponse:
        self._local.served(response)
        return response


async def _acquired(keeper: LeaseKeeper, key: bytes, *, renew: bool = True) -> bool:
    # Not asyncio.wait_for: before Python 3.12, it hides a cancellation that comes together with the lease.
    async with asyncio.timeout(LEASE_SECONDS):
        return await keeper.acquire(key, renew=renew)


def _failure_of(key: bytes) -> bytes:
    """The key of the note that the holder of a lease has failed: a lease itself, which runs out."""
    return hashlib.sha256(b"failed\n" + key).digest()
