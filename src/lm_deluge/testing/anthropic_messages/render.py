"""Anthropic's answers: a message, or the server-sent events that build one."""

from typing import Any

import msgspec

from lm_deluge.testing.answers import Finished
from lm_deluge.testing.tokens import in_pieces
from lm_deluge.testing.values import CacheOutcome

__all__ = ["SERVICE_TIER", "message", "message_events", "message_id"]

SERVICE_TIER = "standard"

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "refusal": "refusal",
    "content_filter": "refusal",
    "pause": "pause_turn",
}


def message_id(identity: str) -> str:
    """The id of the answer to a request."""
    return f"msg_{identity}"


def message(
    finished: Finished | None,
    *,
    identity: str,
    model: str,
    outcome: CacheOutcome,
    diagnostics: dict[str, Any] | None,
    signature: str | None,
    omit: bool,
) -> dict[str, Any]:
    """The message object.

    Args:
        finished: what was generated; None for a request that only fills the cache.
        identity: unique to the request.
        model: as sent.
        outcome: what the prompt cache did.
        diagnostics: where the request departs from an earlier one.
        signature: the signature of the thinking block; None for no such block.
        omit: whether the thought's text is left out of its block.
    """
    return {
        "id": message_id(identity),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": _content(finished, identity, signature, omit) if finished else [],
        **(_stop(finished) if finished else {"stop_reason": "max_tokens", "stop_sequence": None, "stop_details": None}),
        "usage": _usage(finished, outcome),
        "diagnostics": diagnostics,
    }


def message_events(whole: dict[str, Any]) -> list[bytes]:
    """The events that carry a message, piece by piece."""
    output_tokens = whole["usage"]["output_tokens"]
    begun = {**whole, "content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None}
    begun["usage"] = {**whole["usage"], "output_tokens": min(1, output_tokens)}
    events = [_event("message_start", {"message": begun}), _event("ping", {})]
    for index, block in enumerate(whole["content"]):
        empty, deltas = _pieces(block)
        events.append(_event("content_block_start", {"index": index, "content_block": empty}))
        events.extend(_event("content_block_delta", {"index": index, "delta": delta}) for delta in deltas)
        events.append(_event("content_block_stop", {"index": index}))
    stop = {name: whole[name] for name in ("stop_reason", "stop_sequence", "stop_details")}
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    usage = {name: whole["usage"][name] for name in (*names, "output_tokens_details")}
    events.append(_event("message_delta", {"delta": stop, "usage": usage}))
    events.append(_event("message_stop", {}))
    return events


def _content(finished: Finished, identity: str, signature: str | None, omit: bool) -> list[dict[str, Any]]:
    answer = finished.answer
    blocks: list[dict[str, Any]] = []
    if signature is not None:
        blocks.append({"type": "thinking", "thinking": "" if omit else answer.thinking, "signature": signature})
    if answer.text:
        blocks.append({"type": "text", "text": answer.text, "citations": None})
    for number, call in enumerate(answer.tool_calls):
        blocks.append(
            {
                "type": "tool_use",
                "id": f"toolu_{identity}_{number}",
                "name": call.name,
                "input": dict(call.arguments),
                "caller": {"type": "direct"},
            }
        )
    return blocks


def _stop(finished: Finished) -> dict[str, Any]:
    refused = finished.finish in ("refusal", "content_filter")
    details = {"type": "refusal", "category": None, "explanation": finished.answer.refusal} if refused else None
    reason = "stop_sequence" if finished.stop_sequence is not None else _STOP_REASONS[finished.finish]
    return {"stop_reason": reason, "stop_sequence": finished.stop_sequence, "stop_details": details}


def _usage(finished: Finished | None, outcome: CacheOutcome) -> dict[str, Any]:
    return {
        "input_tokens": outcome.uncached,
        "cache_creation_input_tokens": outcome.write,
        "cache_read_input_tokens": outcome.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": outcome.write_5m,
            "ephemeral_1h_input_tokens": outcome.write_1h,
        },
        "output_tokens": finished.output_tokens if finished else 0,
        "output_tokens_details": {"thinking_tokens": finished.thinking_tokens if finished else 0},
        "service_tier": SERVICE_TIER,
    }


def _pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it starts, and the deltas that complete it."""
    match block["type"]:
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": part} for part in in_pieces(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
            return {"type": "thinking", "thinking": "", "signature": ""}, deltas
        case "tool_use":
            text = msgspec.json.encode(block["input"]).decode() if block["input"] else ""
            parts = ["", *in_pieces(text)]
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]
        case _:
            return {**block, "text": ""}, [{"type": "text_delta", "text": part} for part in in_pieces(block["text"])]


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode({"type": name, **data}))
