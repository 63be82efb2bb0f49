"""LiteLLM's caches. What they give back is a dictionary, which its ``completion`` makes a response of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from litellm import ModelResponse
from litellm.caching import Cache

from benchmarks.caches import completions

STORES = ("sqlite", "redis")  # "disk" is diskcache: SQLite, and files for large values. In memory it keeps 200 entries


class Adapter:
    def __init__(self, store: str, place: Path, redis_url: str | None) -> None:
        if store == "redis":
            parts = urlsplit(redis_url or "")
            self._cache = Cache(type="redis", host=parts.hostname, port=str(parts.port))
        else:
            self._cache = Cache(type="disk", disk_cache_dir=str(place))

    def prompt(self, text: str) -> dict[str, Any]:
        return {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": text}], "temperature": 0.0}

    def answers(self, texts: Sequence[str], base_url: str) -> list[Any]:
        return [ModelResponse(**body) for body in completions(texts, base_url)]

    def put(self, prompt: dict[str, Any], answer: Any) -> None:
        self._cache.add_cache(answer, **prompt)

    def get(self, prompt: dict[str, Any]) -> Any:
        return self._cache.get_cache(**prompt)

    def text(self, answer: Any) -> str:
        return answer["choices"][0]["message"]["content"]

    def close(self) -> None:
        inner = getattr(self._cache.cache, "disk_cache", None)
        if inner is not None:
            inner.close()
