"""This library."""

from collections.abc import Sequence
from typing import Any

from benchmarks.contenders.ours import RAISED
from benchmarks.fan_out import MAX_TOKENS, MODEL
from lm_deluge import Conversation, LLMClient, PromptCache

_WAYS: dict[str, Any] = {
    "": "system_and_tools",
    "shared_prefix": "shared_prefix",
    "not warmed": PromptCache(pattern="system_and_tools", warm=False),
}


class Adapter:
    def __init__(self, *, url: str, concurrency: int, way: str) -> None:
        limits: dict[str, Any] = RAISED | {"max_concurrent_requests": concurrency}
        self._client = LLMClient(MODEL, base_url=url, max_new_tokens=MAX_TOKENS, **limits)
        self._cache = _WAYS[way]

    def ask(self, system: str, questions: Sequence[str]) -> list[str | None]:
        base = Conversation.system(system)
        prompts = [base.user(question) for question in questions]
        return [response.completion for response in self._client.process_prompts_sync(prompts, cache=self._cache)]
