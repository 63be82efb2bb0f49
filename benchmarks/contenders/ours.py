"""This library."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from lm_deluge import LLMClient
from lm_deluge.cache import SqliteCache

RAISED = {"max_requests_per_minute": 10**9, "max_tokens_per_minute": 10**12}


class Adapter:
    def __init__(self, *, base_url: str, cache: Path, default_limits: bool) -> None:
        self._cache = SqliteCache(cache)
        limits: dict[str, Any] = {} if default_limits else RAISED
        self._client = LLMClient("gpt-4.1-mini", base_url=base_url, cache=self._cache, **limits)

    def run(self, prompts: list[str]) -> list[Any]:
        return self._client.process_prompts_sync(prompts)

    async def run_async(self, prompts: list[str]) -> list[Any]:
        return await self._client.process_prompts_async(prompts)

    def stream(self, prompts: Iterable[str]) -> AsyncIterator[Any]:
        return self._client.process_prompts_iter(prompts)

    def looked_up(self) -> int | None:
        """Cache look-ups so far, where they can be counted from outside."""
        return None

    def close(self) -> None:
        self._cache.close()
