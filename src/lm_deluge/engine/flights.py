"""Single flight: identical prompts share one call.

On one event loop the first of them asks, and the others wait for its answer. Among threads and processes that share a
cache, a lease in the cache's store says who asks; the others look from time to time whether it is free, and find the
answer in the cache when it is. A holder that dies stops renewing its lease, and another takes over.

A failure is nobody's answer: after one, twice as many of those who wait may ask by themselves. So one bad moment costs
one call more, and a prompt that always fails does not keep a thousand duplicates waiting for each other.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from lm_deluge.cache.leases import LeaseKeeper
from lm_deluge.engine.ledger import as_hit
from lm_deluge.engine.local import Job, LocalCache, raise_if_cancelled
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

    async def board(self, key: bytes, *, on_wait: Callable[[int], None]) -> APIResponse | None:
        """The answer that another prompt got, or None: then the caller is to ask, and to call ``land``.

        Args:
            key: of the answer.
            on_wait: called with 1 when the caller starts to wait, and with -1 when that is over.
        """
        while True:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = _Flight()
            if flight.answer is not None:
                return flight.answer
            if flight.asking < flight.allowed:
                flight.asking += 1
                return None
            flight.waiting += 1
            on_wait(1)
            try:
                await flight.changed.wait()
            except asyncio.CancelledError:
                if flight.waiting == 1 and not flight.asking and self._flights.get(key) is flight:
                    del self._flights[key]
                raise
            finally:
                on_wait(-1)
                flight.waiting -= 1
            if flight.answer is not None:
                return flight.answer

    def land(self, key: bytes, answer: APIResponse | None, *, failed: bool = False) -> None:
        """One who asked is done: with an answer for all, without, or in a way that counts as a failure."""
        flight = self._flights[key]
        flight.asking -= 1
        flight.answer = flight.answer or answer
        if failed:
            flight.allowed *= 2
        flight.wake()
        # Whoever waits holds the flight itself, so it may go from the table once its answer is there.
        if not flight.asking and (flight.answer is not None or not flight.waiting):
            del self._flights[key]


class SingleFlight:
    """How one run shares its calls.

    Args:
        flights: those of the client on this event loop.
        keeper: leases among all who share the cache; None where there is none.
        local: the cache.
        on_wait: called with 1 when a prompt starts to wait for another's answer, and with -1 when that is over.
        on_hit: called with each answer that cost nothing.
        rng: spreads the looks of those who wait.
    """

    def __init__(
        self,
        flights: Flights,
        keeper: LeaseKeeper | None,
        local: LocalCache,
        *,
        on_wait: Callable[[int], None],
        on_hit: Callable[[APIResponse], None],
        rng: random.Random,
    ) -> None:
        self._flights = flights
        self._keeper = keeper
        self._local = local
        self._on_wait = on_wait
        self._on_hit = on_hit
        self._rng = rng

    async def answer(self, job: Job, ask: Callable[[Job], Awaitable[APIResponse]]) -> APIResponse:
        """The answer that another prompt got, or that ``ask`` gives."""
        key = self._local.key(job)
        shared = await self._flights.board(key, on_wait=self._on_wait)
        if shared is not None:
            return self._hit(as_hit(shared, id=job.id))
        response: APIResponse | None = None
        try:
            response = await self._leased(job, key, ask)
            return response
        finally:
            _when_stored(job, lambda stored: self._land(key, response or stored))

    def _land(self, key: bytes, response: APIResponse | None) -> None:
        good = response is not None and self._admits(response)
        self._flights.land(key, response if good else None, failed=response is not None and not good)

    def _admits(self, response: APIResponse) -> bool:
        try:
            return response.local_cache_hit or self._local.admits(response)
        except Exception:  # noqa: BLE001 - the user's own policy; storing the answer has counted and reported it
            return False

    async def _leased(self, job: Job, key: bytes, ask: Callable[[Job], Awaitable[APIResponse]]) -> APIResponse:
        keeper = self._keeper
        if keeper is None or not await self._lease(keeper, key):
            return await ask(job)
        try:
            # Between the first look and the lease another may have asked, and stored what it got.
            found = await self._local.look_again(job)
            return await ask(job) if found is None else self._hit(found)
        finally:
            _when_stored(job, lambda _: keeper.release(key))

    async def _lease(self, keeper: LeaseKeeper, key: bytes) -> bool:
        """Wait for the lease. False if the store has failed: then everybody asks by himself."""
        wait = _FIRST_WAIT
        waiting = False
        try:
            while not await keeper.acquire(key):
                if not waiting:
                    waiting = True
                    self._on_wait(1)
                await asyncio.sleep(wait * self._rng.uniform(0.75, 1.25))
                wait = min(2 * wait, _LONGEST_WAIT)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - without leases, calls are not shared
            raise_if_cancelled(error)
            self._local.failed("leases of single flight could not be had", error)
            return False
        finally:
            if waiting:
                self._on_wait(-1)
        return True

    def _hit(self, response: APIResponse) -> APIResponse:
        self._on_hit(response)
        return response


def _when_stored(job: Job, then: Callable[[APIResponse | None], None]) -> None:
    """Go on at once, or when the answer is stored that came although its prompt was cancelled."""
    if job.finishing is None:
        then(None)
    elif job.finishing.done():
        then(_result(job.finishing))
    else:
        job.finishing.add_done_callback(lambda finished: then(_result(finished)))


def _result(finished: "asyncio.Future[APIResponse]") -> APIResponse | None:
    return None if finished.cancelled() or finished.exception() is not None else finished.result()
