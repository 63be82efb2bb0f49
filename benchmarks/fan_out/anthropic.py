"""Anthropic's own SDK: a breakpoint written by hand, and a semaphore."""

import asyncio
from collections.abc import Sequence

from anthropic import AsyncAnthropic

from benchmarks.fan_out import MAX_TOKENS, MODEL


class Adapter:
    def __init__(self, *, url: str, concurrency: int, way: str) -> None:
        self._url = url
        self._concurrency = concurrency

    def ask(self, system: str, questions: Sequence[str]) -> list[str | None]:
        return asyncio.run(self._ask(system, questions))

    async def _ask(self, system: str, questions: Sequence[str]) -> list[str | None]:
        slots = asyncio.Semaphore(self._concurrency)
        async with AsyncAnthropic(base_url=self._url, api_key="none") as client:

            async def answer(question: str) -> str | None:
                async with slots:
                    message = await client.messages.create(
                        model=MODEL,
                        max_tokens=MAX_TOKENS,
                        system=[{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}],
                        messages=[{"role": "user", "content": question}],
                    )
                return "".join(block.text for block in message.content if block.type == "text")

            return await asyncio.gather(*map(answer, questions))
