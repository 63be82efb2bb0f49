"""LangChain's caches, called as its chat models call them."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.caches import completions

warnings.simplefilter("ignore")  # of its next version

from langchain_community.cache import RedisCache, SQLiteCache  # noqa: E402
from langchain_core.caches import InMemoryCache  # noqa: E402
from langchain_core.load import dumps  # noqa: E402
from langchain_core.messages import AIMessage, HumanMessage  # noqa: E402
from langchain_core.outputs import ChatGeneration  # noqa: E402

STORES = ("sqlite", "memory", "redis")

MODEL = (
    '{"id": ["langchain", "chat_models", "openai", "ChatOpenAI"], "kwargs": {"model_name": "gpt-4.1-mini", '
    '"temperature": 0.0}, "lc": 1, "name": "ChatOpenAI", "type": "constructor"}---[(\'stop\', None)]'
)


class Adapter:
    def __init__(self, store: str, place: Path, redis_url: str | None) -> None:
        self._cache: Any
        match store:
            case "sqlite":
                self._cache = SQLiteCache(database_path=str(place))
            case "memory":
                self._cache = InMemoryCache()
            case "redis":
                from redis import Redis

                self._cache = RedisCache(Redis.from_url(redis_url))

    def prompt(self, text: str) -> str:
        return dumps([HumanMessage(content=text)])

    def answers(self, texts: Sequence[str], base_url: str) -> list[Any]:
        return [_generation(body) for body in completions(texts, base_url)]

    def put(self, prompt: str, answer: Any) -> None:
        self._cache.update(prompt, MODEL, [answer])

    def get(self, prompt: str) -> Any:
        found = self._cache.lookup(prompt, MODEL)
        return found[0] if found else None

    def text(self, answer: Any) -> str:
        return answer.text

    def close(self) -> None:
        if isinstance(self._cache, SQLiteCache):
            self._cache.engine.dispose()


def _generation(body: dict[str, Any]) -> Any:
    choice, usage = body["choices"][0], body["usage"]
    described = {
        "token_usage": usage,
        "model_name": body["model"],
        "system_fingerprint": body["system_fingerprint"],
        "id": body["id"],
        "service_tier": body["service_tier"],
        "finish_reason": choice["finish_reason"],
        "logprobs": None,
    }
    counted = {
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
    }
    message = AIMessage(
        content=choice["message"]["content"], id=body["id"], response_metadata=described, usage_metadata=counted
    )
    return ChatGeneration(message=message, generation_info={"finish_reason": choice["finish_reason"], "logprobs": None})
