"""The input of ``deluge run``: JSON lines, each a prompt, read one at a time."""

import asyncio
import hashlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec

from lm_deluge import canonical
from lm_deluge._json import NotJson, read_json
from lm_deluge.errors import PromptError

__all__ = ["PROMPT_FIELDS", "Row", "RowReader", "read_blocks", "read_rows"]

PROMPT_FIELDS = ("prompt", "messages", "question")
"""Where a prompt is looked for in an object, unless a field is named."""

_BLOCK = 1 << 20
"""Bytes read at once: enough for several long prompts, because what they share is found by comparing them."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the input.

    Attributes:
        index: position among the lines that are not blank, from 0.
        line: number of the line, from 1, for messages.
        digest: 16 hexadecimal digits that stand for the prompt and its id.
        id: the object's ``"id"``, of any type.
        prompt: text or a list of OpenAI-style messages; None when there is a problem.
        extra: the object's other fields, which are passed through to the result.
        problem: why the line cannot be asked, or None.
    """

    index: int
    line: int
    digest: str
    id: Any = None
    prompt: Any = None
    extra: dict[str, Any] = {}
    problem: str | None = None


class RowReader:
    """Turns bytes into rows, in blocks of any size."""

    def __init__(self, *, field: str | None = None, limit: int | None = None) -> None:
        self._field = field
        self._limit = limit
        self._lines = 0
        self._rows = 0
        self._rest = b""

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self._limit is not None and self._rows >= self._limit

    def feed(self, block: bytes) -> Iterator[Row]:
        """Rows of the lines that end in this block. An empty block says that the input has ended."""
        if block:
            *lines, self._rest = (self._rest + block).split(b"\n")
        else:
            lines, self._rest = [self._rest], b""
        for line in lines:
            self._lines += 1
            text = line.strip()
            if not text:
                continue
            if self.full:
                return
            self._rows += 1
            yield self._read(text)

    def _read(self, text: bytes) -> Row:
        value: Any = None
        try:
            value = read_json(text)
            id, prompt, extra = self._parts(value)
            digest = _digest(canonical.encode([id, prompt]))
            return Row(index=self._rows - 1, line=self._lines, digest=digest, id=id, prompt=prompt, extra=extra)
        except NotJson as error:
            problem = f"Line {self._lines} is not JSON: {error}"
        except PromptError as error:
            problem = f"Line {self._lines} {error}"
        id = value.get("id") if isinstance(value, dict) else None
        return Row(index=self._rows - 1, line=self._lines, digest=_digest(text), id=id, problem=problem)

    def _parts(self, value: Any) -> tuple[Any, Any, dict[str, Any]]:
        """Id, prompt and the other fields of a line."""
        if isinstance(value, (str, list)):
            return None, value, {}
        if not isinstance(value, dict):
            raise PromptError("is neither a string, nor a list of messages, nor an object.")
        if self._field is None:
            found = [name for name in PROMPT_FIELDS if name in value]
            if len(found) > 1:
                raise PromptError(f"has the fields {' and '.join(found)}; name the one to use with --field.")
        else:
            found = [self._field] if self._field in value else []
        if not found:
            wanted = self._field or ", ".join(PROMPT_FIELDS)
            raise PromptError(f"has no prompt: looked for {wanted}, found {', '.join(value) or 'nothing'}.")
        prompt = value[found[0]]
        if not isinstance(prompt, (str, list)):
            raise PromptError(f"has a prompt of type {type(prompt).__name__}; text or a list of messages is needed.")
        return value.get("id"), prompt, {name: item for name, item in value.items() if name not in ("id", found[0])}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def read_rows(source: Path | None, *, field: str | None = None, limit: int | None = None) -> Iterator[Row]:
    """The rows of a file, or of standard input where there is none."""
    reader = RowReader(field=field, limit=limit)
    with nullcontext(sys.stdin.buffer) if source is None else source.open("rb") as file:
        while not reader.full and (block := file.read(_BLOCK)):
            yield from reader.feed(block)
    yield from reader.feed(b"")


async def read_blocks(source: Path | int) -> AsyncIterator[bytes]:
    """What a file or a descriptor holds, in blocks, as soon as they can be read; at the end an empty one.

    Standard input may be a program that writes a line now and then, so reading happens off the event loop. The threads
    are daemons: Ctrl-C must not wait for a producer that is silent.
    """
    descriptor = source if isinstance(source, int) else os.open(source, os.O_RDONLY)
    loop = asyncio.get_running_loop()
    try:
        block = b"-"
        while block:
            ready: asyncio.Future[bytes] = loop.create_future()
            threading.Thread(target=_read_into, args=(ready, loop, descriptor), daemon=True).start()
            block = await ready
            yield block
    finally:
        if descriptor != source:
            os.close(descriptor)


def _read_into(ready: "asyncio.Future[bytes]", loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    block, failure = b"", None
    try:
        block = os.read(descriptor, _BLOCK)
    except OSError as error:
        failure = error

    def deliver() -> None:
        if ready.done():  # cancelled meanwhile
            return
        if failure is None:
            ready.set_result(block)
        else:
            ready.set_exception(failure)

    if not loop.is_closed():
        loop.call_soon_threadsafe(deliver)
