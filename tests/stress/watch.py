"""A client whose answers are written down when they arrive, for the programs that leave its runs.

An answer has *arrived* once its last byte was read: a transport around the client's own appends a line to a file, then
hands the answer on. The file is the judge of what must not be lost, and it survives the process. An exception that
strikes between the line and the return (a signal's, in the main thread) takes the line back with another one, since the
client has not been given that answer.
"""

import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from lm_deluge import LLMClient
from lm_deluge.transport import AsyncioTransport, StreamedResponse, Transport
from lm_deluge.wire import HttpRequest, HttpResponse

__all__ = ["Marks", "Watched", "make_client", "text_of"]

LIMITS = {"max_requests_per_minute": 10**9, "max_tokens_per_minute": 10**12}


def text_of(prompt: str) -> str:
    """What is asked for a prompt's name, which is its first word."""
    return f"{prompt} is the name of a prompt. What is the answer to it?"


class Marks:
    """A file to which lines are appended, whole and at once: ``WHAT PHASE PROMPT TIME``."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, what: str, phase: str, prompt: str) -> None:
        os.write(self._file, b"%b %b %b %.6f\n" % (what.encode(), phase.encode(), prompt.encode(), time.monotonic()))

    def close(self) -> None:
        os.close(self._file)


class Watched:
    """A transport that notes what is sent and what has arrived, and tells the server how long to take.

    Args:
        phase: what the server and the marks call this part of a round; may be changed between runs.
        milliseconds: between which an answer takes its time.
        status: what the server is to answer with.
    """

    def __init__(
        self,
        marks: Marks,
        *,
        phase: str,
        milliseconds: tuple[float, float] = (5, 60),
        status: int = 200,
        seed: int = 0,
        inner: Transport | None = None,
    ) -> None:
        self._inner = AsyncioTransport() if inner is None else inner
        self._marks = marks
        self._rng = random.Random(seed)
        self._milliseconds = milliseconds
        self._status = status
        self.phase = phase
        self.sent = 0
        self.arrived = 0
        self.over = False  # nothing more will arrive, whatever somebody waits for

    def wait(self, arrived: int, seconds: float) -> None:
        """Wait in a thread until so many answers have arrived, or until all is over."""
        until = time.monotonic() + seconds
        while self.arrived < arrived and not self.over and time.monotonic() < until:
            time.sleep(0.001)  # and no lock: the other side is a main thread into which signals strike

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        phase, prompt, request = self._prepare(request)
        response = await self._inner.send(request, timeout=timeout)
        try:
            self._note(phase, prompt)
            return response
        except BaseException:
            self._marks.note("torn", phase, prompt)
            raise

    @asynccontextmanager
    async def stream(self, request: HttpRequest, *, timeout: float) -> AsyncIterator[StreamedResponse]:
        phase, prompt, request = self._prepare(request)
        async with self._inner.stream(request, timeout=timeout) as response:
            yield msgspec.structs.replace(response, chunks=self._watch(response.chunks, phase, prompt))

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _watch(self, chunks: AsyncIterator[bytes], phase: str, prompt: str) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk
        try:
            self._note(phase, prompt)
        except BaseException:
            self._marks.note("torn", phase, prompt)
            raise

    def _note(self, phase: str, prompt: str) -> None:
        self._marks.note("arrived", phase, prompt)
        self.arrived += 1

    def _prepare(self, request: HttpRequest) -> tuple[str, str, HttpRequest]:
        content = msgspec.json.decode(request.body)["messages"][-1]["content"]
        text = content if isinstance(content, str) else content[-1]["text"]
        prompt = text.split(maxsplit=1)[0]
        how = f"{self.phase};{self._rng.uniform(*self._milliseconds):.1f};{self._status}"
        self.sent += 1
        self._marks.note("sent", self.phase, prompt)
        return self.phase, prompt, msgspec.structs.replace(request, headers={**request.headers, "x-stress": how})


def make_client(port: int, transport: Transport, **arguments: Any) -> LLMClient:
    """A client of the server on that port, quiet and with limits out of the way."""
    given = {"base_url": f"http://127.0.0.1:{port}/v1", "api_key": "stress", **LIMITS, **arguments}
    return LLMClient("gpt-4.1-mini", transport=transport, **given)
