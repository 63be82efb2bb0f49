"""The events of a streamed Anthropic message, put together into the message (Anthropic, streaming guide)."""

from collections.abc import Mapping
from typing import Any, Literal

from lm_deluge.errors import ProtocolError
from lm_deluge.prompt.parts import as_arguments
from lm_deluge.providers._json import fields_of, nonempty
from lm_deluge.providers._values import Delta

__all__ = ["MessageFold"]

# Kind of delta: the field that holds the piece, and what it is for listeners to the answer.
_DELTAS: Mapping[str, tuple[str, Literal["text", "thinking", "tool_call"] | None]] = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", None),
    "input_json_delta": ("partial_json", "tool_call"),
}


class MessageFold:
    """Puts the events together. Unknown events and deltas are ignored, as the guide asks."""

    def __init__(self) -> None:
        self.has_begun = False
        self.is_complete = False
        self._message: dict[str, Any] | None = None
        self._blocks: dict[int, _Block] = {}

    def add(self, event: dict[str, Any]) -> list[Delta]:
        deltas = self._add(event)
        self.has_begun = self.has_begun or event.get("type") != "ping"
        return deltas

    def _add(self, event: dict[str, Any]) -> list[Delta]:
        match event:
            case {"type": "message_start", "message": dict(message)}:
                self._message = dict(message)
            case {"type": "content_block_start", "index": int(index), "content_block": dict(block)}:
                self._blocks[index] = _Block(block)
            case {"type": "content_block_delta", "index": int(index), "delta": dict(delta)}:
                if index not in self._blocks:
                    raise ProtocolError(f"a delta belongs to content block {index}, which has not begun")
                return self._blocks[index].add(delta)
            case {"type": "message_delta", "delta": dict(delta), **rest} if self._message is not None:
                self._message = _updated(self._message, delta, rest.get("usage"))
            case {"type": "message_stop"}:
                self.is_complete = self._message is not None
        return []

    def end(self) -> None:
        """``[DONE]`` is no event of this format; gateways that send it do so after the last one."""

    def answer(self) -> dict[str, Any]:
        return {**(self._message or {}), "content": [block.whole() for _, block in sorted(self._blocks.items())]}


def _updated(message: dict[str, Any], delta: dict[str, Any], usage: object) -> dict[str, Any]:
    """Counts are cumulative; what an event does not repeat stays as it was."""
    told = {name: value for name, value in fields_of(usage).items() if value is not None}
    return {**message, **delta, "usage": {**fields_of(message.get("usage")), **told} or None}


class _Block:
    def __init__(self, start: dict[str, Any]) -> None:
        self._start = start
        self._pieces: dict[str, list[str]] = {}

    def add(self, delta: dict[str, Any]) -> list[Delta]:
        known = _DELTAS.get(str(delta.get("type")))
        piece = nonempty(delta.get(known[0])) if known else None
        if known is None or piece is None:
            return []
        self._pieces.setdefault(known[0], []).append(piece)
        return [Delta(kind=known[1], text=piece)] if known[1] else []

    def whole(self) -> dict[str, Any]:
        block = dict(self._start)
        for name, pieces in self._pieces.items():
            text = "".join(pieces)
            if name == "partial_json":
                block["input"] = as_arguments(text)
            else:
                block[name] = (nonempty(block.get(name)) or "") + text
        return block
