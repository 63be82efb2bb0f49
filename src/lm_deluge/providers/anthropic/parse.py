"""An Anthropic message, as it is answered or put together from a stream, as a reply."""

from collections.abc import Mapping
from typing import Any

from lm_deluge.errors import ProtocolError
from lm_deluge.models.tiers import tier_of
from lm_deluge.prompt import Message, Part, Text, Thinking
from lm_deluge.providers._json import count, fields_of, known_id, known_name, nonempty, objects, word
from lm_deluge.providers._parts import provider_block, tool_call
from lm_deluge.providers._values import Reply
from lm_deluge.providers.anthropic.layout import NAME
from lm_deluge.usage import Usage

__all__ = ["read_reply"]

_FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}

# Anthropic, data residency guide: inference that is kept in one place costs more. Models before that cannot be kept.
_ANYWHERE = ("global", "not_available")


def read_reply(answer: dict[str, Any]) -> Reply:
    """The reply that a message object holds.

    Raises:
        ProtocolError: it has no content.
    """
    if not isinstance(answer.get("content"), list):
        raise ProtocolError("the message has no content")
    reason = word(answer.get("stop_reason"))
    return Reply(
        content=Message("assistant", [_part(block) for block in objects(answer["content"])]),
        usage=_usage(answer.get("usage")),
        finish_reason=_FINISH_REASONS.get(reason, reason) if reason else None,
        model=known_name(answer.get("model")),
        response_id=known_id(answer.get("id")),
        service_tier=_tier(answer.get("usage")),
        cache_miss_reason=_miss_reason(answer.get("diagnostics")),
    )


def _part(block: dict[str, Any]) -> Part:
    match block:
        case {"type": "text", "text": str(text)}:
            return Text(text)
        case {"type": "thinking", "thinking": str(text)}:
            return Thinking(text, signature=nonempty(block.get("signature")))
        case {"type": "redacted_thinking", "data": str(data)}:
            return Thinking(redacted=data)
        case {"type": "tool_use", "id": str(id), "name": str(name), "input": dict(arguments)}:
            return tool_call(id, name, arguments)
        case _:
            return provider_block(NAME, block)


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    written = fields_of(usage.get("cache_creation"))
    written_1h = count(written.get("ephemeral_1h_input_tokens"))
    by_lifetime = written_1h + count(written.get("ephemeral_5m_input_tokens"))
    return Usage(
        input_tokens=count(usage.get("input_tokens")),
        output_tokens=count(usage.get("output_tokens")),
        cache_read_tokens=count(usage.get("cache_read_input_tokens")),
        cache_write_tokens=max(count(usage.get("cache_creation_input_tokens")), by_lifetime),
        cache_write_1h_tokens=written_1h,
        reasoning_tokens=count(fields_of(usage.get("output_tokens_details")).get("thinking_tokens")),
    )


def _tier(usage: object) -> str | None:
    """Tier, speed and place: each of them has its price."""
    told = fields_of(usage)
    place = word(told.get("inference_geo"))
    return tier_of(word(told.get("service_tier")), word(told.get("speed")), None if place in _ANYWHERE else place)


def _miss_reason(diagnostics: object) -> str | None:
    match diagnostics:
        case {"cache_miss_reason": {"type": str(reason)}}:
            return word(reason)
        case _:
            return None
