"""Any iterable of prompts in chunks: large where prompts are at hand, smaller where they have to be awaited."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from typing import TypeVar

__all__ = ["MOST", "chunked"]

T = TypeVar("T")

MOST = 512
"""Items in a chunk."""

_SECONDS = 0.005


def chunked(items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[list[T], None]:
    """Lists of consecutive items, none of them empty, as soon as they are there."""
    return _from_async(items) if isinstance(items, AsyncIterable) else _from_sync(items)


async def _from_sync(items: Iterable[T]) -> AsyncGenerator[list[T], None]:
    iterator = iter(items)
    while chunk := _read(iterator):
        yield chunk
        await asyncio.sleep(0)  # whatever else the loop runs has its turn between two chunks


def _read(iterator: Iterator[T]) -> list[T]:
    """The next items, until there are many of them or reading has taken a while: a generator may do work of its own."""
    chunk: list[T] = []
    began = time.monotonic()
    for item in iterator:
        chunk.append(item)
        if len(chunk) >= MOST or time.monotonic() - began > _SECONDS:
            break
    return chunk


async def _from_async(items: AsyncIterable[T]) -> AsyncGenerator[list[T], None]:
    """A task reads ahead, so a slow source gives chunks of one and a quick one gives large ones."""
    ready: deque[T] = deque()
    filled, room = asyncio.Event(), asyncio.Event()
    done = False

    async def read_ahead() -> None:
        nonlocal done
        try:
            async for item in items:
                ready.append(item)
                filled.set()
                if len(ready) >= MOST:
                    room.clear()
                    await room.wait()
        finally:
            done = True
            filled.set()

    reader = asyncio.create_task(read_ahead())
    try:
        while True:
            await filled.wait()
            if done and not ready:
                break
            chunk, ready = list(ready), deque()
            room.set()
            if not done:
                filled.clear()
            yield chunk
        await reader  # raises what the source raised
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
