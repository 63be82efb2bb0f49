"""PyPI ``lm-deluge``. Its conversations are changed by ``add``, so each prompt has one of its own."""

from collections.abc import Sequence
from typing import Any

from benchmarks.contenders.reference import RAISED
from benchmarks.fan_out import MAX_TOKENS, MODEL
from lm_deluge import Conversation, LLMClient, Message
from lm_deluge.models import registry  # type: ignore[attr-defined]


class Adapter:
    def __init__(self, *, url: str, concurrency: int, way: str) -> None:
        registry[MODEL].api_base = f"{url}/v1"
        limits: dict[str, Any] = RAISED | {"max_concurrent_requests": concurrency}
        self._client = LLMClient(MODEL, max_new_tokens=MAX_TOKENS, **limits)

    def ask(self, system: str, questions: Sequence[str]) -> list[str | None]:
        prompts = [Conversation().system(system).add(Message.user(question)) for question in questions]
        return [
            response.completion for response in self._client.process_prompts_sync(prompts, cache="system_and_tools")
        ]
