"""What the tests of the caches share: short prompts and answers, and child processes."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from lm_deluge.cache.entry import Blob, Entry, Facts
from lm_deluge.prompt import Conversation, Message
from lm_deluge.response import APIResponse
from lm_deluge.usage import Usage

CHILD = Path(__file__).parent / "child.py"


def prompt(text: object) -> Conversation:
    return Conversation.user(str(text))


def answer(text: object) -> APIResponse:
    return APIResponse(
        model_internal="gpt-4.1-mini",
        model_external="gpt-4.1-mini-2025-04-14",
        content=Message.ai(str(text)),
        usage=Usage(input_tokens=11, output_tokens=7, cache_read_tokens=5, cache_write_tokens=3),
        cost=0.25,
        finish_reason="stop",
        status_code=200,
    )


def start_child(*args: object) -> "subprocess.Popen[str]":
    """A process that runs ``child.py`` with the package under test."""
    paths = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        [sys.executable, str(CHILD), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def finish(child: "subprocess.Popen[str]", text: str | None = None) -> str:
    """What a child wrote, once it has ended well."""
    out, err = child.communicate(text, timeout=120)
    assert child.returncode == 0, err
    return out


def kill(child: "subprocess.Popen[str]") -> str:
    """What a child wrote and nobody has read, once it has been killed.

    Not by ``communicate``, which would not see what an earlier ``readline`` has taken into its buffer.
    """
    assert child.stdout is not None
    assert child.stderr is not None
    child.kill()
    with child:
        rest, said = child.stdout.read(), child.stderr.read()
    assert child.returncode == -signal.SIGKILL, said
    return rest


def run_child(*args: object) -> str:
    return finish(start_child(*args))


def fingerprints(directory: Path) -> dict[str, str]:
    """Name and hash of everything in a directory."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir() if path.is_file()}


def key(text: object) -> bytes:
    """The key of an entry, for tests that use a store without a cache over it."""
    return hashlib.sha256(str(text).encode()).digest()


def blob(data: bytes, *refers: bytes) -> dict[bytes, Blob]:
    """A blob by its name."""
    return {hashlib.sha256(data).digest(): Blob(data, refers)}


def entry(text: object, value: bytes = b"value", *, created: float = 1.0, blobs: Mapping[bytes, Blob] = {}) -> Entry:
    """An entry that refers to all blobs which no other of them refers to."""
    inner = {name for one in blobs.values() for name in one.refers}
    refers = tuple(name for name in blobs if name not in inner)
    return Entry(key=key(text), value=value, refers=refers, blobs=blobs, facts=Facts(created=created))
