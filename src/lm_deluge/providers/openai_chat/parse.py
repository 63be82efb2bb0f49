"""A chat completion, as it is answered or put together from a stream, as a reply.

Many servers write this form, each in its own way: content as an array of parts, reasoning under two names, usage that
is missing or does not add up. What can be understood is; a strange field never costs the answer.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from lm_deluge.errors import ProtocolError
from lm_deluge.models.tiers import tier_of
from lm_deluge.prompt import Message, Part, Text, Thinking, ToolCall
from lm_deluge.providers._json import count, fields_of, known_id, known_name, nonempty, objects, shallow, word
from lm_deluge.providers._parts import provider_block, tool_call
from lm_deluge.providers._values import Reply
from lm_deluge.providers.openai_chat.layout import NAME
from lm_deluge.usage import Usage

__all__ = ["REASONING_FIELDS", "read_part", "read_reply", "reasoning_of"]

_FINISH_REASONS: Mapping[str, str] = {
    "function_call": "tool_calls",
    "eos": "stop",  # Together
    "model_length": "length",  # Mistral
}

REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Where servers put their reasoning: DeepSeek, xAI and vLLM in the first, OpenRouter and Groq in the second."""


def read_reply(answer: dict[str, Any]) -> Reply:
    """The reply that a completion object holds, from its first choice.

    Raises:
        ProtocolError: it has no choice with a message.
    """
    choices = objects(answer.get("choices"))
    message = choices[0].get("message") if choices else None
    if not isinstance(message, dict):
        raise ProtocolError("the completion has no choice with a message")
    reason = word(choices[0].get("finish_reason"))
    if nonempty(message.get("refusal")):
        reason = "refusal"
    logprobs = objects(fields_of(choices[0].get("logprobs")).get("content"))
    return Reply(
        content=Message("assistant", list(_parts(message))),
        usage=_usage(answer.get("usage")),
        finish_reason=_FINISH_REASONS.get(reason, reason) if reason else None,
        model=known_name(answer.get("model")),
        response_id=known_id(answer.get("id")),
        logprobs=shallow(logprobs or None),
        service_tier=tier_of(word(answer.get("service_tier"))),
    )


def _parts(message: dict[str, Any]) -> Iterator[Part]:
    if reasoning := reasoning_of(message):
        yield Thinking(reasoning)
    content = message.get("content")
    if isinstance(content, str):
        if content:
            yield Text(content)
    else:
        yield from map(read_part, objects(content))
    if refusal := nonempty(message.get("refusal")):
        yield Text(refusal)
    for index, call in enumerate(objects(message.get("tool_calls"))):
        yield _tool_call(call, index)


def reasoning_of(message: dict[str, Any]) -> str | None:
    """The reasoning in a message or a piece of one."""
    return next((text for name in REASONING_FIELDS if (text := nonempty(message.get(name)))), None)


def read_part(part: dict[str, Any]) -> Part:
    """One part of a content that came as an array. What is not known is kept as it is."""
    match part:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return Text(text)
        case {"type": "thinking", "thinking": str(text)}:
            return Thinking(text)
        case {"type": "thinking", "thinking": list(pieces)}:  # Mistral, reasoning guide
            return Thinking("".join(nonempty(piece.get("text")) or "" for piece in objects(pieces)))
        case _:
            return provider_block(NAME, part)


def _tool_call(call: dict[str, Any], index: int) -> ToolCall:
    function = fields_of(call.get("function"))
    arguments = function.get("arguments")
    return tool_call(
        nonempty(call.get("id")) or f"call_{index}",
        nonempty(function.get("name")) or "",
        arguments if isinstance(arguments, (str, dict)) else {},
    )


def _usage(usage: object) -> Usage | None:
    """Here the prompt's tokens include the cached ones, so the parts are taken out of the total."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    details = fields_of(usage.get("prompt_tokens_details"))
    cached = count(details.get("cached_tokens")) or count(usage.get("prompt_cache_hit_tokens"))  # DeepSeek's name
    read = min(cached, prompt)
    written = min(count(details.get("cache_write_tokens")), prompt - read)
    # xAI and Gemini bill reasoning as output and leave it out of completion_tokens; the total has it.
    output = max(completion, count(usage.get("total_tokens")) - prompt)
    reasoning = count(fields_of(usage.get("completion_tokens_details")).get("reasoning_tokens"))
    return Usage(
        input_tokens=prompt - read - written,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=min(reasoning, output),
    )
