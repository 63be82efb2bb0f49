"""The caches of PyPI ``lm-deluge``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_deluge import Conversation, LLMClient, Message
from lm_deluge.cache import DistributedDictCache, LevelDBCache, SqliteCache
from lm_deluge.models import registry  # type: ignore[attr-defined]

STORES = ("sqlite", "leveldb", "mapping")


class _Mapping(dict[str, Any]):
    put = dict.__setitem__


class Adapter:
    def __init__(self, store: str, place: Path, redis_url: str | None) -> None:
        self._cache: Any
        match store:
            case "sqlite":
                self._cache = SqliteCache(str(place))
            case "leveldb":
                self._cache = LevelDBCache(str(place))
            case "mapping":
                self._cache = DistributedDictCache(_Mapping(), cache_key="benchmark")

    def prompt(self, text: str) -> Any:
        return Conversation().add(Message.user(text))

    def answers(self, texts: Sequence[str], base_url: str) -> list[Any]:
        registry["gpt-4.1-mini"].api_base = base_url
        limits: dict[str, Any] = {"max_requests_per_minute": 10**9, "max_tokens_per_minute": 10**12}
        return LLMClient("gpt-4.1-mini", **limits).process_prompts_sync(list(texts), show_progress=False)

    def put(self, prompt: Any, answer: Any) -> None:
        self._cache.put(prompt, answer)

    def get(self, prompt: Any) -> Any:
        return self._cache.get(prompt)

    def text(self, answer: Any) -> str:
        return answer.completion or ""

    def close(self) -> None:
        if hasattr(self._cache, "close"):
            self._cache.close()
