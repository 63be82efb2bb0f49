"""The chunks of a streamed chat completion, put together into the completion (OpenAI, streaming guide)."""

from typing import Any, Literal

from lm_deluge.prompt import Text, Thinking
from lm_deluge.providers._json import fields_of, nonempty, objects
from lm_deluge.providers._values import Delta
from lm_deluge.providers.openai_chat.parse import REASONING_FIELDS, read_part, reasoning_of

__all__ = ["CompletionFold"]


class CompletionFold:
    """Puts the chunks of the first choice together.

    The answer is complete when its finish reason has come, or ``[DONE]``: some servers leave out one of them.
    """

    def __init__(self) -> None:
        self.has_begun = False
        self._done = False
        self._header: dict[str, Any] = {}
        self._finish_reason: str | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._other_parts: list[dict[str, Any]] = []
        self._calls: dict[int, _Call] = {}
        self._logprobs: list[dict[str, Any]] = []

    @property
    def is_complete(self) -> bool:
        return self._done or self._finish_reason is not None

    def add(self, event: dict[str, Any]) -> list[Delta]:
        # Gateways to Anthropic pass on its pings.
        self.has_begun = self.has_begun or event.get("type") != "ping"
        for name in ("id", "model", "usage", "service_tier"):
            if event.get(name):
                self._header[name] = event[name]
        deltas: list[Delta] = []
        for choice in objects(event.get("choices")):
            if choice.get("index", 0) == 0:
                self._finish_reason = nonempty(choice.get("finish_reason")) or self._finish_reason
                if logprobs := choice.get("logprobs"):
                    self._logprobs += objects(fields_of(logprobs).get("content"))
                if isinstance(delta := choice.get("delta"), dict):
                    deltas += self._add_delta(delta)
        return deltas

    def end(self) -> None:
        self._done = True

    def answer(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._text)}
        if self._other_parts:
            message["content"] = [{"type": "text", "text": message["content"]}, *self._other_parts]
        if self._reasoning:
            message[REASONING_FIELDS[0]] = "".join(self._reasoning)
        if self._refusal:
            message["refusal"] = "".join(self._refusal)
        if self._calls:
            message["tool_calls"] = [call.whole() for _, call in sorted(self._calls.items())]
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason}
        return {**self._header, "choices": [{**choice, "logprobs": {"content": self._logprobs}}]}

    def _add_delta(self, delta: dict[str, Any]) -> list[Delta]:
        deltas: list[Delta] = []
        if reasoning := reasoning_of(delta):
            deltas.append(_kept(self._reasoning, "thinking", reasoning))
        if text := nonempty(delta.get("content")):
            deltas.append(_kept(self._text, "text", text))
        for part in objects(delta.get("content")):
            read = read_part(part)
            if isinstance(read, Text) and read.text:
                deltas.append(_kept(self._text, "text", read.text))
            elif isinstance(read, Thinking) and read.text:
                deltas.append(_kept(self._reasoning, "thinking", read.text))
            elif not isinstance(read, (Text, Thinking)):
                self._other_parts.append(part)
        if refusal := nonempty(delta.get("refusal")):
            deltas.append(_kept(self._refusal, "text", refusal))
        for call in objects(delta.get("tool_calls")):
            deltas += self._add_call(call)
        return deltas

    def _add_call(self, piece: dict[str, Any]) -> list[Delta]:
        index = piece.get("index")
        if not isinstance(index, int):
            # Without an index a new id starts a call, and anything else goes on with the last one.
            index = len(self._calls) if nonempty(piece.get("id")) or not self._calls else max(self._calls)
        return self._calls.setdefault(index, _Call()).add(piece)


def _kept(pieces: list[str], kind: Literal["text", "thinking"], text: str) -> Delta:
    pieces.append(text)
    return Delta(kind=kind, text=text)


class _Call:
    def __init__(self) -> None:
        self._id: str | None = None
        self._name: str | None = None
        self._arguments: list[str] = []

    def add(self, piece: dict[str, Any]) -> list[Delta]:
        function = fields_of(piece.get("function"))
        self._id = self._id or nonempty(piece.get("id"))
        self._name = self._name or nonempty(function.get("name"))
        arguments = nonempty(function.get("arguments"))
        if arguments is None:
            return []
        self._arguments.append(arguments)
        return [Delta(kind="tool_call", text=arguments)]

    def whole(self) -> dict[str, Any]:
        function = {"name": self._name, "arguments": "".join(self._arguments)}
        return {"id": self._id, "type": "function", "function": function}
