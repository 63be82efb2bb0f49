"""The one place where attempts wait: for their prefix, a slot, the end of a pause, the limits, or the time of a retry.

The scheduler decides (``schedule.scheduler``); the gate lends it an event loop and a clock.
"""

import asyncio
import contextlib
import random
from types import TracebackType
from typing import Self

from lm_deluge._clock import Clock
from lm_deluge.schedule.limits import Limits
from lm_deluge.schedule.prefixes import PrefixScheduler
from lm_deluge.schedule.scheduler import Scheduler
from lm_deluge.schedule.ticket import Attempt, Stage, Ticket

__all__ = ["Admission", "Gate"]

_LOOK_SECONDS = 2.0  # real ones, between two looks at the leaders while there are followers


class Gate:
    """Lets attempts through as the scheduler decides. Belongs to one event loop; limits and prefixes may be shared.

    Args:
        limits: requests and tokens per minute, and pauses.
        prefixes: who leads and who follows.
        max_concurrent: requests in flight at once.
        clock: time.
        rng: spreads the attempts that a common pause held back.
    """

    def __init__(
        self,
        limits: Limits,
        prefixes: PrefixScheduler[Ticket],
        *,
        max_concurrent: int,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._clock = clock
        self.now = clock.monotonic  # the time that the scheduler goes by
        self._loop = asyncio.get_running_loop()
        self.scheduler = Scheduler(
            limits,
            prefixes,
            slots=max_concurrent,
            rng=rng,
            driver=self,
        )
        self._followers: set[Ticket] = set()
        self._look: asyncio.TimerHandle | None = None

    def admission(self, attempt: Attempt) -> "Admission":
        """``async with`` it: in the block the request of the attempt may be sent.

        Raises:
            UnavailableError: on entering the block, the model has not answered for too long.
        """
        return Admission(self, attempt)

    async def rest(self, attempt: Attempt, seconds: float) -> None:
        """Return when the time has come to retry an attempt.

        Raises:
            UnavailableError: meanwhile the model has not answered for too long.
        """
        ticket = self.scheduler.rest(attempt, seconds, self.now())
        try:
            await self.until_ready(ticket)
        finally:
            self.scheduler.leave(ticket, self.now())

    async def until_ready(self, ticket: Ticket) -> None:
        """Return when a ticket may go."""
        while ticket.stage is not Stage.READY and ticket.problem is None:
            if ticket.stage is Stage.LEADER:
                await asyncio.sleep(0)  # the prompts that came with it become followers
            elif ticket.stage is Stage.FOLLOWER:
                await self._woken_or_impatient(ticket)
            elif ticket.until is not None:
                await self._clock.sleep(ticket.until - self.now())
            else:
                await self._woken(ticket)
            self.scheduler.move(ticket, self.now())
        if ticket.problem is not None:
            raise ticket.problem

    async def _woken(self, ticket: Ticket) -> None:
        ticket.waiter = waiter = self._loop.create_future()
        if not ticket.is_woken:
            await waiter

    async def _woken_or_impatient(self, ticket: Ticket) -> None:
        self._followers.add(ticket)
        if self._look is None:
            self._look_soon()
        try:
            await self._woken(ticket)
        finally:
            self._followers.discard(ticket)

    @property
    def is_abandoned(self) -> bool:
        """Whether the event loop does not run, so that nothing becomes of the requests."""
        return not self._loop.is_running()

    def wake(self, ticket: Ticket) -> None:
        """Let the task of a ticket go on."""
        if isinstance(ticket.waiter, asyncio.Future) and not ticket.waiter.done():
            with contextlib.suppress(RuntimeError):  # the loop is closed, so none waits
                ticket.waiter.set_result(None)

    def wake_followers(self, tickets: list[Ticket]) -> None:
        """Let the tasks of tickets go on. From any thread."""
        with contextlib.suppress(RuntimeError):  # as above
            self._loop.call_soon_threadsafe(self._wake_all, tickets)

    def _wake_all(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            self.wake(ticket)

    def _look_at_leaders(self) -> None:
        """Wake the followers whose patience is over. Leaders whose event loop has stopped are not waited for."""
        self._look = None
        self.scheduler.cancel_abandoned()
        now = self.now()
        for ticket in self._followers:
            if ticket.until is not None and ticket.until <= now:
                self.wake(ticket)
        if self._followers:
            self._look_soon()

    def _look_soon(self) -> None:
        left = min((ticket.until - self.now() for ticket in self._followers if ticket.until is not None), default=0.0)
        self._look = self._loop.call_later(max(0.01, min(left, _LOOK_SECONDS)), self._look_at_leaders)


class Admission:
    """One attempt at the gate, from its wait to the end of its requests.

    What is not told ends with the block: then the slot is free, and a request whose answer has not begun is cancelled.
    """

    __slots__ = ("_attempt", "_gate", "_now", "_scheduler", "_ticket")

    def __init__(self, gate: Gate, attempt: Attempt) -> None:
        self._gate = gate
        self._scheduler = gate.scheduler
        self._now = gate.now
        self._attempt = attempt

    async def __aenter__(self) -> Self:
        self._ticket = ticket = self._scheduler.enter(self._attempt, self._now())
        if ticket.stage is not Stage.READY:
            await self._until_ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scheduler.leave(self._ticket, self._now())

    async def _until_ready(self) -> None:
        try:
            await self._gate.until_ready(self._ticket)
        except BaseException:
            self._scheduler.leave(self._ticket, self._now())
            raise

    @property
    def queued(self) -> float:
        """Seconds that it waited for a slot, for pauses and for the limits."""
        return self._ticket.queued

    @property
    def is_prefill(self) -> bool:
        """Whether what is to be sent now is a request without an answer: others wait for the prefix."""
        return self._ticket.is_prefill

    @property
    def may_be_awaited(self) -> bool:
        """Whether others wait for the answer to begin, or may come to."""
        return self._scheduler.may_be_awaited(self._ticket)

    def sent(self) -> None:
        """The request goes out."""
        self._scheduler.sent(self._ticket, self._now())

    def began(self, *, started: float) -> None:
        """The answer has begun to the request that was sent at ``started``, on the monotonic clock."""
        self._scheduler.began(self._ticket, started=started, now=self._now())

    def failed(self) -> None:
        """The request has ended without an answer."""
        self._scheduler.failed(self._ticket)

    def done(self) -> None:
        """The exchange is over, and its slot is free."""
        self._scheduler.done(self._ticket, self._now())

    async def resume(self) -> None:
        """Return when the attempt itself may be sent, after its prefill.

        Raises:
            UnavailableError: meanwhile the model has not answered for too long.
        """
        self._scheduler.resume(self._ticket, self._now())
        await self._until_ready()
