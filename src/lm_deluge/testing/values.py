"""The values that pass between a test and the emulator: what was asked, what to answer, what was seen."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from lm_deluge.testing.bill import Charge

__all__ = ["Answer", "AnswerToolCall", "CacheOutcome", "Finish", "ParsedRequest", "RecordedRequest", "Responder"]

Finish: TypeAlias = Literal["stop", "length", "tool_calls", "refusal", "content_filter", "pause"]


class ParsedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted request, in the terms that all wire formats share.

    Attributes:
        provider: ``"anthropic"`` or ``"openai"``.
        path: the URL path, such as ``"/v1/messages"``.
        model: the model's name as sent.
        text: the text of the last user turn, its blocks joined by newlines.
        system: the system (or developer) text, joined by newlines; empty for none.
        stream: whether the client asked for server-sent events.
        max_tokens: the limit on generated tokens; None when the request sets none.
        stop: the stop sequences.
        tools: the names of the callable tools.
        forced_tool: the tool the model must call: a name, ``"*"`` for any of them, None when it may choose.
        schema: the JSON schema the answer must follow, if one was given.
        body: the request body as received.
    """

    provider: Literal["anthropic", "openai"]
    path: str
    model: str
    text: str
    body: bytes
    system: str = ""
    stream: bool = False
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    forced_tool: str | None = None
    schema: Mapping[str, Any] | None = None

    @property
    def json(self) -> dict[str, Any]:
        """The body, decoded at each access, so that no reader can change what another one sees."""
        decoded: dict[str, Any] = msgspec.json.decode(self.body)
        return decoded


class AnswerToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One tool call of a scripted answer. ``arguments`` must be JSON-encodable."""

    name: str
    arguments: Mapping[str, Any] = {}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model is to say. The emulator renders it in the wire format of the request.

    Attributes:
        text: the visible text; may be empty.
        thinking: the reasoning. Anthropic answers show it in a signed block before the text, where the request turns
            thinking on; OpenAI answers only count it. None keeps the default, an empty string switches it off.
        tool_calls: calls that follow the text.
        refusal: why the model refuses. OpenAI: ``message.refusal``; Anthropic: ``stop_reason: "refusal"``.
        finish: why the answer ends. None derives it: tool calls, a refusal, a stop sequence, the token limit, or
            ``"stop"``.
    """

    text: str = ""
    thinking: str | None = None
    tool_calls: tuple[AnswerToolCall, ...] = ()
    refusal: str | None = None
    finish: Finish | None = None


class CacheOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request's prompt tokens went. The parts do not overlap; their sum is the whole prompt.

    Attributes:
        uncached: billed at the plain input price.
        read: read from the prompt cache.
        write_5m: written for five minutes (for OpenAI: written at all).
        write_1h: written for one hour.
    """

    uncached: int = 0
    read: int = 0
    write_5m: int = 0
    write_1h: int = 0

    @property
    def write(self) -> int:
        """All tokens written."""
        return self.write_5m + self.write_1h

    @property
    def total(self) -> int:
        """All prompt tokens."""
        return self.uncached + self.read + self.write

    @property
    def header(self) -> bytes:
        """The value of the header ``x-emulator-cache``, as ``Emulator`` describes it."""
        parts = (self.uncached, self.read, self.write_5m, self.write_1h)
        return b"uncached=%d, read=%d, write-5m=%d, write-1h=%d" % parts


class RecordedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the emulator saw it.

    Attributes:
        path: the URL path.
        headers: names in lower case, credentials removed.
        body: the body as received.
        status: the status answered; 0 when none was (a fault dropped the connection, or the client left).
        cache: what the simulated prompt cache did; None for a request that was rejected.
        charge: what is charged for it, an answer that a fault broke included; None when nothing was generated for it.
        fault: the name of the scripted fault that was applied, if any.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int
    cache: CacheOutcome | None = None
    charge: Charge | None = None
    fault: str | None = None

    @property
    def json(self) -> Any:
        """The decoded body.

        Raises:
            msgspec.DecodeError: the body is not JSON.
        """
        return msgspec.json.decode(self.body)

    @property
    def cost(self) -> float | None:
        """What the provider charges, in US dollars; None when the model has no known price, 0 without a charge."""
        return 0.0 if self.charge is None else self.charge.cost


Responder: TypeAlias = Callable[[ParsedRequest], Answer]
