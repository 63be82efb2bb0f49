"""The one place where calls wait: for a pause to end, for the limits, and for a free slot.

Who is next of those that wait is decided in ``schedule.fair_queue``.
"""

import asyncio
import random

from lm_deluge._clock import Clock
from lm_deluge.schedule.fair_queue import APART, FairQueue
from lm_deluge.schedule.limits import Limits

__all__ = ["Gate"]


class Gate:
    """Lets calls through as the limits allow. Belongs to one event loop; the limits behind it may be shared.

    Args:
        limits: requests and tokens per minute, and pauses.
        max_concurrent: calls under way at once.
        clock: time.
        rng: spreads the calls that a common pause held back.
    """

    def __init__(self, limits: Limits, *, max_concurrent: int, clock: Clock, rng: random.Random) -> None:
        self._limits = limits
        self._slots = _Slots(max_concurrent, clock)
        self._turn = _Slots(1, clock)
        self._clock = clock
        self._rng = rng

    def try_enter(self, model: str, tokens: float) -> bool:
        """Whether a call of about ``tokens`` tokens to ``model`` may start at once. If so, call ``leave`` after it."""
        if not self._turn.free or not self._slots.try_acquire():
            return False
        if self._limits.acquire(model, tokens, self._clock.monotonic()):
            self._slots.release()
            return False
        return True

    async def enter(self, model: str, tokens: float, *, group: bytes | None = APART) -> None:
        """Return when a call of about ``tokens`` tokens to ``model`` may start. Call ``leave`` when it is over.

        Args:
            model: whose pauses count.
            tokens: the call's share of the limit.
            group: the prefix that the call reads; None if it writes one, and ``APART`` if it does neither.

        Raises:
            UnavailableError: the model has not answered for too long.
        """
        await self._slots.acquire(group)
        try:
            await self._wait(model, tokens, group)
        except BaseException:
            self._slots.release()
            raise

    def leave(self) -> None:
        """Free the slot of a call."""
        self._slots.release()

    async def _wait(self, model: str, tokens: float, group: bytes | None) -> None:
        while True:
            now = self._clock.monotonic()
            self._limits.check(model, now)
            paused = self._limits.paused_for(model, now)
            if paused:
                # A little apart, so the calls that were held back do not all come in the same instant.
                apart = paused + self._rng.uniform(0, min(1.0, paused / 4))
                await self._clock.sleep(min(apart, self._limits.gives_up_in(model, now) or apart))
                continue
            # One call at a time waits for the limits, so a large call is not overtaken for ever by small ones.
            await self._turn.acquire(group)
            try:
                while wait := self._limits.acquire(model, tokens, self._clock.monotonic()):
                    if self._limits.paused_for(model, self._clock.monotonic()):
                        break  # not here, where calls to other models stand behind
                    await self._clock.sleep(wait)
                else:
                    return
            finally:
                self._turn.release()


class _Slots:
    """A semaphore with a line of those who wait, whose cost does not grow with their number.

    ``asyncio.Semaphore`` looks at every waiter whenever it is released, which for hundreds of waiters is more work than
    the rest of a call.
    """

    def __init__(self, count: int, clock: Clock) -> None:
        self.free = count
        self._clock = clock
        self._line: FairQueue[asyncio.Future[None]] = FairQueue(asyncio.Future.done)

    def try_acquire(self) -> bool:
        if self.free:
            self.free -= 1
            return True
        return False

    async def acquire(self, group: bytes | None) -> None:
        if self.try_acquire():
            return
        turn = asyncio.get_running_loop().create_future()
        self._line.push(turn, group, self._clock.monotonic())
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # the slot was handed over in the moment of the cancellation
            raise

    def release(self) -> None:
        turn = self._line.pop(self._clock.monotonic())
        if turn is None:
            self.free += 1
        else:
            turn.set_result(None)  # handed over, so nobody who comes later gets in first
