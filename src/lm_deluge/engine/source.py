"""Any iterable of prompts in chunks: large where prompts are at hand, smaller where they have to be awaited."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

__all__ = ["MOST", "Source", "chunked"]

T = TypeVar("T")

MOST = 512
"""Items in a chunk."""

_SECONDS = 0.005


class Source(Protocol[T]):
    """Consecutive items in lists.

    No asynchronous generator: an event loop that is wound up closes all of those by itself and at once, and one that is
    closing another complains.
    """

    async def take(self) -> list[T]:
        """The next items, as soon as there are any; an empty list at the end."""
        ...

    async def close(self) -> None:
        """Read no further."""
        ...


def chunked(items: Iterable[T] | AsyncIterable[T]) -> Source[T]:
    """The items of any iterable."""
    return _Awaited(items) if isinstance(items, AsyncIterable) else _AtHand(items)


class _AtHand(Generic[T]):
    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._iterator: Iterator[T] | None = None

    async def take(self) -> list[T]:
        if self._iterator is None:
            self._iterator = iter(self._items)
        else:
            await asyncio.sleep(0)  # whatever else the loop runs has its turn between two chunks
        return _read(self._iterator)

    async def close(self) -> None:
        return


def _read(iterator: Iterator[T]) -> list[T]:
    """The next items, until there are many of them or reading has taken a while: a generator may do work of its own."""
    chunk: list[T] = []
    began = time.monotonic()
    for item in iterator:
        chunk.append(item)
        if len(chunk) >= MOST or time.monotonic() - began > _SECONDS:
            break
    return chunk


class _Awaited(Generic[T]):
    """A task reads ahead, so a slow source gives chunks of one and a quick one gives large ones."""

    def __init__(self, items: AsyncIterable[T]) -> None:
        self._items = items
        self._ready: deque[T] = deque()
        self._filled, self._room = asyncio.Event(), asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._done = False

    async def take(self) -> list[T]:
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_ahead())
        await self._filled.wait()
        if self._done and not self._ready:
            await self._reader  # raises what the source raised
        chunk, self._ready = list(self._ready), deque()
        self._room.set()
        if not self._done:
            self._filled.clear()
        return chunk

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _read_ahead(self) -> None:
        try:
            async for item in self._items:
                self._ready.append(item)
                self._filled.set()
                if len(self._ready) >= MOST:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._done = True
            self._filled.set()
