"""PyPI ``lm-deluge``: an existing library with the same documented interface."""

from pathlib import Path
from typing import Any

from lm_deluge import LLMClient
from lm_deluge.cache import SqliteCache
from lm_deluge.models import registry  # type: ignore[attr-defined]

RAISED = {"max_requests_per_minute": 10**9, "max_tokens_per_minute": 10**12}


class _Counting(SqliteCache):
    looked_up = 0

    def get(self, prompt: Any) -> Any:
        self.looked_up += 1
        return super().get(prompt)


class Adapter:
    def __init__(self, *, base_url: str, cache: Path, default_limits: bool) -> None:
        registry["gpt-4.1-mini"].api_base = base_url
        self._cache = _Counting(str(cache))
        limits: dict[str, Any] = {} if default_limits else RAISED
        self._client = LLMClient("gpt-4.1-mini", cache=self._cache, **limits)

    def run(self, prompts: list[str]) -> list[Any]:
        return self._client.process_prompts_sync(prompts)

    async def run_async(self, prompts: list[str]) -> list[Any]:
        return await self._client.process_prompts_async(prompts)

    def looked_up(self) -> int:
        """Cache look-ups so far."""
        return self._cache.looked_up

    def close(self) -> None:
        self._cache.close()
