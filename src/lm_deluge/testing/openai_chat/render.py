"""OpenAI's answers: a chat completion, or the chunks that build one."""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from lm_deluge.testing.answers import Finished
from lm_deluge.testing.tokens import DELTA_CHARACTERS, in_pieces, token_bytes
from lm_deluge.testing.values import CacheOutcome

__all__ = ["DONE", "completion", "completion_events"]

DONE = b"data: [DONE]\n\n"

_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "refusal": "stop",
    "content_filter": "content_filter",
    "pause": "stop",
}


def completion(
    answers: Sequence[Finished],
    *,
    identity: str,
    created: int,
    model: str,
    outcome: CacheOutcome,
    service_tier: str,
    top_logprobs: int | None,
) -> dict[str, Any]:
    """The chat completion object.

    Args:
        answers: one for each choice.
        identity: unique to the request.
        created: seconds since the epoch.
        model: as sent.
        outcome: what the prompt cache did.
        service_tier: how the request was processed.
        top_logprobs: how many alternatives to list for each token; None for no logprobs at all.
    """
    return {
        "id": f"chatcmpl-{identity}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [_choice(index, each, identity, top_logprobs) for index, each in enumerate(answers)],
        "usage": _usage(answers, outcome),
        "service_tier": service_tier,
        "system_fingerprint": "fp_emulator",
    }


def completion_events(whole: dict[str, Any], *, include_usage: bool, obfuscate: bool) -> list[bytes]:
    """The chunks that carry a completion: role, content, finish reason; the usage last, if it was asked for.

    OpenAI pads chunks to like sizes with a field ``obfuscation`` unless told not to; clients have to ignore it.
    """
    frame = {name: whole[name] for name in ("id", "created", "model", "service_tier", "system_fingerprint")}
    frame["object"] = "chat.completion.chunk"
    if include_usage:
        frame["usage"] = None
    events = []
    for choice in whole["choices"]:
        for part in _deltas(choice):
            chunk = {**frame, "choices": [{"index": choice["index"], **part}]}
            if obfuscate:
                chunk["obfuscation"] = "x" * (DELTA_CHARACTERS - len(part["delta"].get("content") or ""))
            events.append(_event(chunk))
    if include_usage:
        events.append(_event({**frame, "choices": [], "usage": whole["usage"]}))
    events.append(DONE)
    return events


def _choice(index: int, finished: Finished, identity: str, top_logprobs: int | None) -> dict[str, Any]:
    answer = finished.answer
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if (answer.tool_calls or answer.refusal) and not answer.text else answer.text,
        "refusal": answer.refusal,
        "annotations": [],
    }
    if answer.tool_calls:
        message["tool_calls"] = [
            {
                "id": f"call_{identity}_{index}_{number}",
                "type": "function",
                "function": {"name": call.name, "arguments": msgspec.json.encode(call.arguments).decode()},
            }
            for number, call in enumerate(answer.tool_calls)
        ]
    logprobs = None
    if top_logprobs is not None:
        logprobs = {"content": token_logprobs(answer.text, top_logprobs), "refusal": None}
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": _FINISH_REASONS[finished.finish],
    }


def token_logprobs(text: str, top: int) -> list[dict[str, Any]]:
    """Plausible log probabilities, the same for the same text: each token's own is the highest of its list."""
    result = []
    for position, data in enumerate(token_bytes(text)):
        seed = hashlib.blake2b(data + position.to_bytes(4, "big"), digest_size=2).digest()
        own = -(seed[0] + 1) / 1024
        chosen = {"token": data.decode("utf-8", "replace"), "logprob": own, "bytes": list(data)}
        others = [_alternative(rank, own, seed[1]) for rank in range(1, top)]
        result.append({**chosen, "top_logprobs": [chosen, *others][:top]})
    return result


def _alternative(rank: int, own: float, salt: int) -> dict[str, Any]:
    token = f"~{rank}"
    return {"token": token, "logprob": own - rank - salt / 256, "bytes": list(token.encode())}


def _usage(answers: Sequence[Finished], outcome: CacheOutcome) -> dict[str, Any]:
    completion_tokens = sum(each.output_tokens for each in answers)
    return {
        "prompt_tokens": outcome.total,
        "completion_tokens": completion_tokens,
        "total_tokens": outcome.total + completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": outcome.read,
            "cache_write_tokens": outcome.write,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": sum(each.thinking_tokens for each in answers),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _deltas(choice: dict[str, Any]) -> list[dict[str, Any]]:
    message = choice["message"]
    first: dict[str, Any] = {"role": "assistant", "content": "" if message["content"] is not None else None}
    parts: list[dict[str, Any]] = [{"delta": {**first, "refusal": None}, "logprobs": None, "finish_reason": None}]

    def add(delta: dict[str, Any], logprobs: Any = None) -> None:
        parts.append({"delta": delta, "logprobs": logprobs, "finish_reason": None})

    if choice["logprobs"] is not None:
        for text, tokens in _logprob_groups(message["content"] or "", choice["logprobs"]["content"]):
            add({"content": text}, {"content": tokens, "refusal": None})
    else:
        for text in in_pieces(message["content"] or ""):
            add({"content": text})
    for text in in_pieces(message["refusal"] or ""):
        add({"refusal": text})
    for number, call in enumerate(message.get("tool_calls", ())):
        head = {**call, "function": {"name": call["function"]["name"], "arguments": ""}}
        add({"tool_calls": [{"index": number, **head}]})
        for text in in_pieces(call["function"]["arguments"]):
            add({"tool_calls": [{"index": number, "function": {"arguments": text}}]})
    parts.append({"delta": {}, "logprobs": None, "finish_reason": choice["finish_reason"]})
    return parts


def _logprob_groups(text: str, tokens: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Tokens with the text they complete; a token that ends inside a character waits for the next one."""
    groups: list[tuple[str, list[dict[str, Any]]]] = []
    data, waiting = b"", []
    for token in tokens:
        data += bytes(token["bytes"])
        waiting.append(token)
        try:
            piece = data.decode()
        except UnicodeDecodeError:
            continue
        groups.append((piece, waiting))
        data, waiting = b"", []
    if waiting:
        groups.append((data.decode("utf-8", "replace"), waiting))
    return groups


def _event(data: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(data)
