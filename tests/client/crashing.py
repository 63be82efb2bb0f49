"""The other process of ``test_crash``: ``python crashing.py TASK ARGUMENT ...``.

The environment says where the provider is. What it prints has reached a caller: each line is one response, or
what came of one file.
"""

import asyncio
import faulthandler
import itertools
import json
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from lm_deluge import Conversation, LLMClient
from lm_deluge.cache import SqliteCache
from lm_deluge.errors import CacheError
from lm_deluge.prompt import Message
from lm_deluge.response import APIResponse

PREFIX = Conversation.system("You are an expert on arithmetic. " * 60)
FLIPPED = 24
SECONDS = 20.0


def prompt(text: str) -> Conversation:
    return PREFIX.user(text)


def client_of(cache: SqliteCache, **arguments: Any) -> LLMClient:
    limits = {"max_requests_per_minute": 10**9, "max_tokens_per_minute": 10**12, "max_concurrent_requests": 24}
    return LLMClient("gpt-4.1-mini", cache=cache, **limits, **arguments)


def say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def fill(path: str, name: str) -> None:
    """Ask without end, and say each answer once it has come."""

    def prompts() -> Iterator[Conversation]:
        return (prompt(f"{name} {number}") for number in itertools.count())

    async def main() -> None:
        client = client_of(SqliteCache(path))
        async for response in client.process_prompts_iter(prompts(), show_progress=False):
            say([f"{name} {response.id}", response.completion])

    asyncio.run(main())


def ask_flipped() -> None:
    """Ask the same of each file that is named on the input; see the test for what is allowed."""
    warnings.simplefilter("ignore")
    asked = [prompt(f"flip {number}") for number in range(FLIPPED)]
    for line in sys.stdin:
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            cache = SqliteCache(line.strip())
        except CacheError as error:
            say({"refused": str(error)})
            continue
        client = client_of(cache)
        found = [client.process_prompts_sync(asked, show_progress=False) for _ in range(2)]
        client.close()
        with suppress(CacheError):  # what is not written then is when entries were used
            cache.close()
        say(
            {
                "texts": [[response.completion for response in responses] for responses in found],
                "hits": [sum(response.local_cache_hit for response in responses) for responses in found],
                "errors": [
                    response.error_message for responses in found for response in responses if response.is_error
                ],
            }
        )


def put(path: str, name: str, count: str) -> None:
    """Store answers one by one, and say how long the slowest took."""
    slowest = 0.0
    with SqliteCache(path) as cache:
        say("ready")
        sys.stdin.readline()
        for number in range(int(count)):
            asked, answer = prompt(f"{name} {number}"), APIResponse(content=Message.ai(f"{name} {number}"))
            began = time.perf_counter()
            cache.put(asked, answer)
            slowest = max(slowest, time.perf_counter() - began)
    say(slowest)


if __name__ == "__main__":
    {"fill": fill, "ask_flipped": ask_flipped, "put": put}[sys.argv[1]](*sys.argv[2:])
