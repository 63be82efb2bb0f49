"""This library's caches. They can also look up and store many at once, as its client does."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_deluge import APIResponse, Conversation, LLMClient, Message
from lm_deluge.cache import DistributedDictCache, LevelDBCache, MemoryCache, RedisCache, ResponseCache, SqliteCache
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.stores.sqlite import SqliteStore

STORES = ("sqlite", "leveldb", "mapping", "memory", "redis")

AT_ONCE = 225  # answers that come together at the default concurrency
LOOKED_UP = 512  # prompts that the client looks up together
FILLER_BYTES = (360, 400, 440)  # about what a GSM8K answer takes


class Adapter:
    def __init__(self, store: str, place: Path, redis_url: str | None) -> None:
        self._place = place
        self._cache: ResponseCache
        match store:
            case "sqlite":
                self._cache = SqliteCache(place)
            case "leveldb":
                self._cache = LevelDBCache(place)
            case "mapping":
                self._cache = DistributedDictCache({})
            case "memory":
                self._cache = MemoryCache()
            case "redis":
                self._cache = RedisCache(redis_url)

    def prompt(self, text: str) -> Conversation:
        return Conversation().add(Message.user(text))

    def answers(self, texts: Sequence[str], base_url: str) -> list[APIResponse]:
        limits: dict[str, Any] = {"max_requests_per_minute": 10**9, "max_tokens_per_minute": 10**12}
        with LLMClient("gpt-4.1-mini", base_url=base_url, **limits) as client:
            return client.process_prompts_sync(texts, show_progress=False)

    def put(self, prompt: Conversation, answer: APIResponse) -> None:
        self._cache.put(prompt, answer)

    def get(self, prompt: Conversation) -> APIResponse | None:
        return self._cache.get(prompt)

    def put_all(self, prompts: Sequence[Conversation], answers: Sequence[APIResponse]) -> None:
        """Store all, as many at a time as a client has under way."""

        async def main() -> None:
            pairs = iter(zip(prompts, answers, strict=True))

            async def work() -> None:
                for prompt, answer in pairs:
                    await self._cache.store(prompt, answer)

            await asyncio.gather(*(work() for _ in range(AT_ONCE)))

        asyncio.run(main())

    def get_all(self, prompts: Sequence[Conversation]) -> list[APIResponse | None]:
        """Look all up, in chunks."""

        async def main() -> list[APIResponse | None]:
            starts = range(0, len(prompts), LOOKED_UP)
            chunks = [await self._cache.get_many(prompts[start : start + LOOKED_UP]) for start in starts]
            return [found.response for chunk in chunks for found in chunk]

        return asyncio.run(main())

    def fill(self, start: int, count: int) -> None:
        """Add entries that nobody will ask for, through the store: their values are random bytes."""
        store = SqliteStore(self._place)
        values = [hashlib.shake_128(b"%d" % size).digest(size) for size in FILLER_BYTES]
        for first in range(start, start + count, 1_000):
            store.put_many(
                [
                    Entry(
                        key=hashlib.sha256(b"%d" % number).digest(),
                        value=values[number % len(values)],
                        request=values[(number + 1) % len(values)],
                    )
                    for number in range(first, min(first + 1_000, start + count))
                ]
            )
        store.close()

    def text(self, answer: APIResponse) -> str:
        return answer.completion or ""

    def close(self) -> None:
        self._cache.close()
