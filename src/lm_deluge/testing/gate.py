"""A gate that holds answers back until a test lets them go, one by one and without sleeping."""

import asyncio
import threading
from collections import deque

from lm_deluge._locks import renewed
from lm_deluge.testing.clock import wake

__all__ = ["Gate"]


class Gate:
    """Requests that passed validation wait here, in order, before their answers begin. Made by ``Emulator.hold``.

    As a context manager it opens at the end of the block. All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._changed = renewed(threading.Condition())
        self._held: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._permits = 0
        self._open = False

    def __enter__(self) -> "Gate":
        return self

    def __exit__(self, *_: object) -> None:
        self.open()

    @property
    def held(self) -> int:
        """How many requests wait now."""
        with self._changed:
            return len(self._held)

    def release(self, count: int = 1) -> None:
        """Let ``count`` answers go, oldest first; what is not waiting yet passes when it comes."""
        with self._changed:
            for _ in range(count):
                if not self._wake_one():
                    self._permits += 1

    def open(self) -> None:
        """Let everything go, now and from now on."""
        with self._changed:
            self._open = True
            while self._wake_one():
                pass

    def wait(self, count: int = 1, *, timeout: float = 60.0) -> None:
        """Block this thread until ``count`` requests are held.

        Raises:
            TimeoutError: fewer were within ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._held) >= count, timeout):
                raise TimeoutError(f"{len(self._held)} of {count} requests are held after {timeout} s")

    async def arrived(self, count: int = 1, *, timeout: float = 60.0) -> None:  # noqa: ASYNC109  (as in `wait`)
        """``wait`` for use in a coroutine: it does not block the event loop."""
        await asyncio.to_thread(self.wait, count, timeout=timeout)

    async def enter(self) -> None:
        """Called by the emulator for each request."""
        loop = asyncio.get_running_loop()
        with self._changed:
            if self._open:
                return
            if self._permits:
                self._permits -= 1
                return
            entry = (loop, loop.create_future())
            self._held.append(entry)
            self._changed.notify_all()
        try:
            await entry[1]
        finally:
            with self._changed:
                if entry in self._held:  # the client left
                    self._held.remove(entry)

    def _wake_one(self) -> bool:
        if not self._held:
            return False
        loop, future = self._held.popleft()
        loop.call_soon_threadsafe(wake, future)
        return True
