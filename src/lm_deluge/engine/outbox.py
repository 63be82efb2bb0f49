"""Responses on their way to the caller."""

import asyncio

from lm_deluge.response import APIResponse

__all__ = ["Outbox"]

_UNREAD = 4096


class Outbox:
    """Gathers responses; whoever adds waits for ``room`` while too many are unread."""

    def __init__(self) -> None:
        self._ready: list[APIResponse] = []
        self._closed = False
        self._failure: BaseException | None = None
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    def add(self, *responses: APIResponse) -> None:
        """Put responses in. Never waits."""
        self._ready.extend(responses)
        self._filled.set()

    @property
    def is_full(self) -> bool:
        """Whether to wait for ``room`` before going on."""
        return len(self._ready) > _UNREAD

    async def room(self) -> None:
        """Return once the caller has taken what is unread."""
        while self.is_full:
            self._emptied.clear()
            await self._emptied.wait()

    async def take(self) -> list[APIResponse] | None:
        """All that is ready, at least one; None at the end.

        Raises:
            BaseException: what ``fail`` was given.
        """
        while True:
            await self._filled.wait()
            # Whatever else is ready in this pass of the event loop comes along, so the caller is woken once for all.
            await asyncio.sleep(0)
            if not self._closed:
                self._filled.clear()
            if self._ready or self._closed or self._failure is not None:
                break
        if self._failure is not None:
            raise self._failure
        ready, self._ready = self._ready, []
        self._emptied.set()
        return ready or None

    def close(self) -> None:
        """Say that nothing more will come."""
        self._closed = True
        self._filled.set()

    def fail(self, error: BaseException) -> None:
        """End it all with an error, at the next ``take``."""
        self._failure = self._failure or error
        self._filled.set()
