"""Prompts on their way into a run and responses on their way out, many at a time.

Prompts of any iterable are read in chunks, large where they are at hand and smaller where they have to be awaited; each
is checked and hashed, and a failure stays at its own position.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from lm_deluge._threads import in_thread
from lm_deluge.errors import LMDelugeError
from lm_deluge.prompt import Conversation, PromptLike, as_conversation
from lm_deluge.response import APIResponse

__all__ = ["MOST", "Outbox", "Prepared", "Source", "chunked", "prepare"]

T = TypeVar("T")

MOST = 512
"""Items in a chunk."""

_SECONDS = 0.005
_INLINE_BYTES = 256 * 1024  # hashed in a fraction of a millisecond
_UNREAD = 4096


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
        self._is_over = False

    async def take(self) -> list[T]:
        """The next items, until there are many or reading has taken a while: a generator may do work of its own."""
        if self._is_over:
            return []
        if self._iterator is None:
            self._iterator = iter(self._items)
        else:
            await asyncio.sleep(0)  # the rest of what the loop runs goes on between two chunks
        chunk: list[T] = []
        began = time.monotonic()
        for item in self._iterator:
            chunk.append(item)
            if len(chunk) >= MOST or time.monotonic() - began > _SECONDS:
                return chunk
        self._is_over = True
        return chunk

    async def close(self) -> None:
        return


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


Prepared = Conversation | str
"""A prompt whose media are in memory and whose digest is known, or what is wrong with it."""


async def prepare(prompts: Sequence[PromptLike]) -> list[Prepared]:
    """Make prompts ready for lookup. Files are read, and much text is hashed, in a thread."""
    prepared: list[Prepared] = []
    late: list[int] = []
    size = 0
    for prompt in prompts:
        try:
            conversation = as_conversation(prompt)
        except LMDelugeError as error:
            prepared.append(str(error))
            continue
        if type(prompt) is str:
            size, loaded = size + len(prompt), True
        else:
            size += 4 * sum([message.token_estimate for message in conversation.messages])
            loaded = conversation.is_loaded
        if size > _INLINE_BYTES or not loaded:
            late.append(len(prepared))
            prepared.append(conversation)
        else:
            prepared.append(_ready(conversation))
    if late:
        ready = await in_thread(lambda: [_ready(prepared[position]) for position in late])
        for position, outcome in zip(late, ready, strict=True):
            prepared[position] = outcome
    return prepared


def _ready(prompt: Prepared) -> Prepared:
    if isinstance(prompt, str):
        return prompt
    try:
        loaded = prompt.load()
        loaded.digest  # noqa: B018 - computed here and kept, where it does not hold up anything
    except LMDelugeError as error:
        return str(error)
    return loaded


class Outbox:
    """Gathers responses. Those who add wait for ``room`` while too many are unread."""

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
            if not self._closed:
                # All that becomes ready in this pass of the event loop comes along, so the caller is woken once.
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
