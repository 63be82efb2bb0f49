"""One thing for each event loop that uses a transport: its connections belong to the loop, and go with it."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from lm_deluge._locks import renewed
from lm_deluge._per_process import PerProcess

__all__ = ["PerLoop", "when_loop_ends"]


class Closable(Protocol):
    """What is kept for a loop."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop it is for."""
        ...

    def close(self) -> None:
        """End it. Called in its loop."""
        ...


T = TypeVar("T", bound=Closable)


class PerLoop(Generic[T]):
    """Finds the one for the running loop, or makes it.

    Args:
        make: makes one for a loop.
    """

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], T]) -> None:
        self._make = make
        self._here = threading.local()
        # A forked process makes its own. Connections are the parent's, and to let go of them could touch its sockets.
        self._known = PerProcess[list[T]](list)
        self._lock = renewed(threading.Lock())

    def current(self) -> T:
        """The one for the running loop. A loop runs in one thread, so this needs no lock."""
        loop = asyncio.get_running_loop()
        found: T | None = getattr(self._here, "found", None)
        return found if found is not None and found.loop is loop else self._other(loop)

    def close(self) -> None:
        """End all of them: the running loop's now, the others as soon as their loops get to it."""
        here = asyncio.get_running_loop()
        with self._lock:
            known = list(self._known.get())
        for each in known:
            if each.loop is here:
                each.close()
            else:
                with contextlib.suppress(RuntimeError):  # the loop is closed, and its connections with it
                    each.loop.call_soon_threadsafe(each.close)

    def _other(self, loop: asyncio.AbstractEventLoop) -> T:
        with self._lock:
            known = self._known.get()
            known[:] = [each for each in known if not each.loop.is_closed()]
            found = next((each for each in known if each.loop is loop), None)
            if found is None:
                found = self._make(loop)
                known.append(found)
        self._here.found = found
        return found


def when_loop_ends(close: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
    """Have ``close`` called as the running loop ends: ``asyncio.run`` closes asynchronous generators that are left.

    It is called too when what is returned here is closed, or dropped.
    """

    async def waiting() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await close()

    guard = waiting()
    with contextlib.suppress(StopIteration):
        guard.__anext__().send(None)
    return guard
