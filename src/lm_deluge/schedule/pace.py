"""Short passes of the event loop, however many answers come at once.

Two hundred answers that arrive together would be handled in one pass of the loop, and anything else that runs on it (a
web server, a progress bar) would wait for all of them. So only some go on in each pass; the others queue for the next.
"""

import asyncio
import time
from collections import deque

__all__ = ["Pace"]

_STEPS = 16  # of about 0.1 ms each
_SECONDS = 0.004  # or fewer, if they take longer: another thread may hold the interpreter


class Pace:
    """Counts the steps of one event loop's current pass. To be made on it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._taken = 0
        self._began = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def step(self) -> bool:
        """Take a step of this pass and return True, or return False: ``turn`` has to be awaited first."""
        if self._taken >= _STEPS:
            return False
        if not self._taken:
            self._began = time.monotonic()
            self._loop.call_soon(self._next_pass)
        elif time.monotonic() - self._began > _SECONDS:
            self._taken = _STEPS
            return False
        self._taken += 1
        return True

    async def turn(self) -> None:
        """Take a step of a later pass, and return in it."""
        if self.step():
            return  # a pass has begun since the caller asked
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next_pass(self) -> None:
        self._taken = 0
        self._began = time.monotonic()
        while self._waiting and self._taken < _STEPS:
            turn = self._waiting.popleft()
            if not turn.done():  # not cancelled
                turn.set_result(None)
                self._taken += 1
        if self._taken:
            self._loop.call_soon(self._next_pass)
