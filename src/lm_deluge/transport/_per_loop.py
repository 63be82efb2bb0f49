"""One thing for each event loop that uses a transport: its connections belong to the loop, and go with it."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from lm_deluge._locks import renewed

__all__ = ["PerLoop"]


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
        self._known: list[T] = []
        self._inherited: list[T] = []
        self._lock = renewed(threading.Lock())
        self._pid = os.getpid()

    def current(self) -> T:
        """The one for the running loop. A loop runs in one thread, so this needs no lock."""
        loop = asyncio.get_running_loop()
        found: T | None = getattr(self._here, "found", None)
        return found if found is not None and found.loop is loop else self._other(loop)

    def close(self) -> None:
        """End all of them: the running loop's now, the others as soon as their loops get to it."""
        here = asyncio.get_running_loop()
        if self._pid != os.getpid():
            return  # they are the parent's
        with self._lock:
            known = list(self._known)
        for each in known:
            if each.loop is here:
                each.close()
            else:
                with contextlib.suppress(RuntimeError):  # the loop is closed, and its connections with it
                    each.loop.call_soon_threadsafe(each.close)

    def _other(self, loop: asyncio.AbstractEventLoop) -> T:
        if self._pid != os.getpid():
            # A forked process. The connections are the parent's, and to let go of them could touch its sockets.
            self._inherited, self._known, self._pid = self._known, [], os.getpid()
        with self._lock:
            self._known = [each for each in self._known if not each.loop.is_closed()]
            found = next((each for each in self._known if each.loop is loop), None)
            if found is None:
                found = self._make(loop)
                self._known.append(found)
        self._here.found = found
        return found
