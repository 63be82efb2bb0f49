"""DSPy's cache: its disk tier and its memory tier, each by itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy
from litellm import ModelResponse

from benchmarks.caches import completions

STORES = ("sqlite", "memory")  # the disk tier is diskcache: SQLite, and files for large values


class Adapter:
    def __init__(self, store: str, place: Path, redis_url: str | None) -> None:
        on_disk = store == "sqlite"
        dspy.configure_cache(enable_disk_cache=on_disk, enable_memory_cache=not on_disk, disk_cache_dir=str(place))

    def prompt(self, text: str) -> dict[str, Any]:
        return {
            "model": "openai/gpt-4.1-mini",
            "messages": [{"role": "user", "content": text}],
            "temperature": 0.0,
            "max_tokens": 512,
        }

    def answers(self, texts: Sequence[str], base_url: str) -> list[Any]:
        return [ModelResponse(**body) for body in completions(texts, base_url)]

    def put(self, prompt: dict[str, Any], answer: Any) -> None:
        dspy.cache.put(prompt, answer)

    def get(self, prompt: dict[str, Any]) -> Any:
        return dspy.cache.get(prompt)

    def text(self, answer: Any) -> str:
        return answer.choices[0].message.content

    def close(self) -> None:
        if hasattr(dspy.cache.disk_cache, "close"):
            dspy.cache.disk_cache.close()
