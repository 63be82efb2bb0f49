"""A client that asks a provider whose answer is the case, with credentials in all places where there may be some."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from lm_deluge import Conversation, LLMClient
from lm_deluge.cache import MemoryCache
from lm_deluge.transport import StreamedResponse
from lm_deluge.wire import HttpRequest, HttpResponse

from .judge import SECRETS
from .using import use_response

__all__ = ["HEADERS", "PREFIX", "Provider", "ask", "check_message"]

PREFIX = Conversation.system("Label by these rules, and be exact. " * 2_000)
"""Long enough for every provider's prompt cache, so that the first of several prompts is streamed."""

HEADERS = {"X-Gateway-Password": SECRETS["header"], "Cookie": f"id={SECRETS['cookie']}", "X-Feature": "beta-1"}
_PIECE = 7


class Provider:
    """A transport that gives one response to all, whole or in pieces, and looks at nothing."""

    def __init__(self, response: HttpResponse) -> None:
        self._response = response

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        return self._response

    @asynccontextmanager
    async def stream(self, request: HttpRequest, *, timeout: float) -> AsyncIterator[StreamedResponse]:
        response = await self.send(request, timeout=timeout)

        async def chunks() -> AsyncIterator[bytes]:
            body = response.body
            size = _PIECE if len(body) < 5_000 else 1 + len(body) // 700
            for start in range(0, len(body), size):
                await asyncio.sleep(0)
                yield body[start : start + size]

        yield StreamedResponse(status=response.status, headers=response.headers, chunks=chunks())

    async def aclose(self) -> None:
        pass


def ask(model: str, response: HttpResponse, *, stream: bool) -> list[str]:
    """All that is said of prompts that are answered so."""
    provider, events = Provider(response), []
    store = MemoryCache()
    client = LLMClient(
        model,
        base_url="https://api.example.com/v1",
        api_key=SECRETS["key"],
        extra_headers=HEADERS,
        cache=store,
        transport=provider,
        max_attempts=1,
        listeners=[events.append],
        **_high(),
    )
    prompts = [PREFIX.user("a"), PREFIX.user("b")] if stream else [Conversation.user("a")]
    if "retry-after" in response.headers:
        del prompts[1:]  # the second would do as it is told, and wait for ten minutes
    how: dict[str, Any] = {"cache": "system_and_tools"} if stream else {}
    try:
        responses = client.process_prompts_sync(prompts, show_progress=False, **how)
        assert len(responses) == len(prompts), "a prompt has no response"
        said = [repr(events), repr(client), f"{client.last_report} {client.last_report!r}"]
        for one in responses:
            if one.is_error:
                check_message(one.error_message)
                said.append(one.error_message or "")
            said += _used(one)
        return said
    finally:
        client.close()
        store.close()


def _used(response: Any) -> list[str]:
    # The body as it came is the user's to look at, and holds what the server wrote.
    return list(use_response(response)) if response.is_error else [response.error_message or ""]


def check_message(message: str | None) -> None:
    """One printable line of bounded length, which tells what happened and hides no fault of ours."""
    assert message, "an error without a message"
    assert "Unexpected " not in message, f"hidden: {message[message.index('Unexpected ') :][:100]}"
    assert message.isprintable(), "a message with characters that drive a terminal"
    assert len(message) < 900, "a message without end"


@cache
def _high() -> dict[str, float]:
    return {"max_requests_per_minute": 1e9, "max_tokens_per_minute": 1e12}
