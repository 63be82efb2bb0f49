"""Caches with known entries, in each kind of store that the command line takes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_deluge.cache import LevelDBCache, RedisCache, ResponseCache, SqliteCache
from lm_deluge.prompt import Conversation, Message, Text, Thinking, ToolCall
from lm_deluge.response import APIResponse
from lm_deluge.usage import Usage

if TYPE_CHECKING:
    from subprocess import CompletedProcess

NOW = 1_790_000_000.0
DAY = 86_400.0

HOSTILE = "\x1b[2Jgone\x07 [bold]loud[/bold] \u202eevil"


class FixedClock:
    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        raise AssertionError


class Place:
    """A cache that commands are given by its name."""

    def __init__(self, kind: str, directory: Path, redis_url: str = "") -> None:
        self.kind = kind
        self.name = redis_url if kind == "redis" else str(directory / kind)

    def open(self, *, days: float = 0, namespace: str = "default", **options: Any) -> ResponseCache:
        """The cache as it was so many days before ``NOW``."""
        clock: Any = FixedClock(NOW - days * DAY)
        made: Any = {"sqlite": SqliteCache, "leveldb": LevelDBCache, "redis": RedisCache}[self.kind]
        cache: ResponseCache = made(self.name, namespace, clock=clock, **options)
        return cache

    def put(self, text: str, answer: str = "yes", *, days: float = 0, namespace: str = "default", **facts: Any) -> str:
        """Store an answer; the key of its entry."""
        prompt = Conversation.system("You grade.").user(text)
        with self.open(days=days, namespace=namespace) as cache:
            cache.put(prompt, response(answer, **facts))
            return cache.key(prompt).hex()


def response(answer: str, *, model: str = "model-1", cost: float | None = 0.25) -> APIResponse:
    return APIResponse(
        model_internal="model",
        model_external=model,
        content=Message("assistant", [Thinking("let me see"), Text(answer), ToolCall("c1", "grade", {"score": 3})]),
        usage=Usage(input_tokens=100, output_tokens=20, cache_read_tokens=30),
        cost=cost,
        finish_reason="stop",
        raw_body=b'{"id": "x"}',
    )


def rows(done: "CompletedProcess[str]") -> list[Any]:
    """The lines of JSON that a command wrote."""
    return [json.loads(line) for line in done.stdout.splitlines()]
