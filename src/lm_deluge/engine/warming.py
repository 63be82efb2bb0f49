"""Warm fan-out: of prompts that share a prefix one goes first, and the rest follow once its answer has begun.

An entry of the provider's cache can be read only once the answer that wrote it has begun. Two hundred prompts at once
would pay the write price two hundred times. ``schedule.prefixes`` decides who goes; here prompts wait and are woken.
"""

import asyncio
import contextlib
from collections.abc import Callable

from lm_deluge._clock import Clock
from lm_deluge.prompt_cache import Prefix
from lm_deluge.schedule import APART, PrefixScheduler, PrefixTicket

_LOOK_SECONDS = 2.0

__all__ = ["Waiter", "WarmTurn", "Warming"]


class Waiter:
    """A prompt that waits, on whatever event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Let it ask again. May be called from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:
            return  # its event loop is closed, so nobody waits

    @property
    def is_woken(self) -> bool:
        """Whether it was woken and has not gone on yet."""
        return self._woken.is_set()

    async def wait(self, seconds: float) -> None:
        """Return when woken, or after a time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)

    def settle(self) -> None:
        """It goes on."""
        self._woken.clear()


class WarmTurn:
    """What one request may do, and how it ended. A turn that is over ignores what comes later.

    Attributes:
        waited: seconds that the request waited for it.
    """

    def __init__(self, warming: "Warming", turn: PrefixTicket | None, *, waited: float = 0.0) -> None:
        self._warming = warming
        self._turn = turn
        self._loop = asyncio.get_running_loop()
        self.waited = waited
        if self.leads:
            warming.leading.add(self)

    @property
    def is_abandoned(self) -> bool:
        """Whether its event loop does not run, so that nobody makes the call."""
        return not self._loop.is_running()

    @property
    def leads(self) -> bool:
        """Whether others may wait for this request's answer to begin."""
        return self._turn is not None and bool(self._turn.leads)

    @property
    def is_awaited(self) -> bool:
        """Whether others wait for it now."""
        return self._turn is not None and self._warming.warmth.is_awaited(self._turn)

    @property
    def may_be_awaited(self) -> bool:
        """Whether others wait for it now, or may come to. Nobody waits for the end of a prompt that is his alone."""
        return self._turn is not None and (self._turn.is_of_use or self._warming.warmth.is_awaited(self._turn))

    @property
    def group(self) -> bytes | None:
        """Whom the request takes turns with at the limits. See ``Gate.enter``."""
        return APART if self._turn is None else self._turn.group

    @property
    def holds(self) -> bool:
        """Whether what the request reads can still be read."""
        return self._turn is None or self._warming.warmth.holds(self._turn, self._warming.now())

    def sent(self) -> None:
        """The request goes out. Before that it may have waited for the client's limits."""
        if self._turn is not None:
            self._warming.warmth.sent(self._turn, self._warming.now())

    def began(self, *, started: float) -> None:
        """The answer has begun to a request that was sent at ``started``, on the monotonic clock."""
        self._end(lambda warmth, turn: warmth.began(turn, started=started, now=self._warming.now()))

    def failed(self) -> None:
        """The request ended without an answer."""
        self._end(lambda warmth, turn: warmth.failed(turn))

    def close(self) -> None:
        """The request is over; if nothing else was said, it was given up."""
        self._end(lambda warmth, turn: warmth.cancelled(turn))

    def _end(self, tell: Callable[[PrefixScheduler[Waiter], PrefixTicket], list[Waiter]]) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            self._warming.leading.discard(self)
            for waiter in tell(self._warming.warmth, turn):
                waiter.wake()


class Warming:
    """How one run takes turns.

    Args:
        warmth: the client's, shared by its runs and event loops.
        leading: the turns that lead, shared likewise.
        clock: its monotonic reading is the one that ``warmth`` goes by.
        on_wait: called with 1 when a prompt starts to wait, and with -1 when it goes on.
    """

    def __init__(
        self, warmth: PrefixScheduler[Waiter], leading: "set[WarmTurn]", clock: Clock, *, on_wait: Callable[[int], None]
    ) -> None:
        self.warmth = warmth
        self.leading = leading
        self._clock = clock
        self._on_wait = on_wait

    def now(self) -> float:
        """The time that ``warmth`` goes by."""
        return self._clock.monotonic()

    def alone(self) -> WarmTurn:
        """The turn of a request that nobody waits for."""
        return WarmTurn(self, None)

    async def enter(self, prefixes: tuple[Prefix, ...]) -> WarmTurn:
        """The turn of a request with these prefixes, once it may be sent."""
        if not prefixes:
            return self.alone()
        waiter = Waiter()
        turn = self.warmth.enter(prefixes, self.now(), waiter)
        if turn.role != "wait":
            return WarmTurn(self, turn)
        began = self.now()
        self._on_wait(1)
        try:
            while turn.role == "wait":
                await self._wait(waiter, turn.until)
                turn = self.warmth.enter(prefixes, self.now(), waiter)
        except BaseException:
            for other in self.warmth.cancelled(turn, waiter):
                other.wake()
            raise
        finally:
            self._on_wait(-1)
        return WarmTurn(self, turn, waited=self.now() - began)

    async def _wait(self, waiter: Waiter, until: float) -> None:
        """Return when woken, or at a time. Those who lead and whose event loop has stopped are not waited for."""
        while not waiter.is_woken and (left := until - self.now()) > 0:
            for turn in [turn for turn in list(self.leading) if turn.is_abandoned]:
                turn.close()
            await waiter.wait(min(left, _LOOK_SECONDS))
        waiter.settle()
