"""The judge itself is judged: it has to see what the SDKs' types as they are let pass."""

import copy
import json
from typing import Any

import pytest

from .strict_types import (
    ValidationError,
    anthropic_body,
    mistral_body,
    openai_body,
    openrouter_body,
    openrouter_messages_body,
)

ANTHROPIC: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 10,
    "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}, "strict": True}],
    "messages": [
        {
            "role": "user",
            "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="}}],
        },
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": "s"}]},
    ],
}
OPENAI: dict[str, Any] = {
    "model": "gpt-4.1",
    "temperature": 0.5,
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "ok"},
    ],
}
MARK = {"type": "ephemeral"}
BREAKPOINT = {"mode": "explicit"}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {}}}


def changed(body: dict[str, Any], path: str, value: Any) -> bytes:
    body = copy.deepcopy(body)
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    place: Any = body
    for step in steps:
        place = place[step]
    place[last] = value
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("judge", "body"),
    [
        (anthropic_body, ANTHROPIC),
        (anthropic_body, {**ANTHROPIC, "stream": True}),
        (openrouter_messages_body, ANTHROPIC),
        (openai_body, OPENAI),
        (openai_body, {**OPENAI, "stream": True, "stream_options": {"include_usage": True}}),
        (openrouter_body, OPENAI),
        (openrouter_body, {**OPENAI, "tools": [{**FUNCTION, "cache_control": {**MARK, "ttl": "1h"}}]}),
        (mistral_body, {**OPENAI, "prompt_cache_key": "k", "random_seed": 1}),
        (
            mistral_body,
            {**OPENAI, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        ),
    ],
)
def test_accepts_what_the_apis_document(judge: Any, body: dict[str, Any]) -> None:
    judge().validate_json(json.dumps(body), strict=True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("system.0.cache_control.ttl", "2h"),
        ("system.0.cache_control.scope", "global"),
        ("messages.0.content.0.source.media_type", "image/tiff"),
        ("messages.0.content.0.type", "picture"),
        ("messages.1.content.0.cache_control", MARK),
        ("messages.0.role", "tool"),
        ("messages.0.name", "Ann"),
        ("tools.0.strict", "yes"),
        ("tools.0.cache_control", {"type": "persistent"}),
        ("temperature", 0.5),
        ("max_tokens", "10"),
        ("output_config", {"effort": "minimal"}),
        ("thinking", {"type": "enabled"}),
        ("messages.1.content.0", {"type": "thinking", "thinking": "unsigned"}),
        ("messages", {}),
    ],
)
def test_anthropic_judge_refuses(path: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        anthropic_body().validate_json(changed(ANTHROPIC, path, value), strict=True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("system.0.cache_control.ttl", "2h"),
        ("system.0.cache_control.scope", "global"),
        ("messages.0.content.0.source.media_type", "image/tiff"),
        ("messages.0.content.0.type", "picture"),
        ("messages.1.content.0.cache_control", MARK),
        ("messages.1.content.0", {"type": "redacted_thinking", "data": "x", "cache_control": MARK}),
        ("messages.0.role", "tool"),
        ("messages.0.name", "Ann"),
        ("tools.0.cache_control", {"type": "persistent"}),
        ("max_tokens", "10"),
        ("seed", 1),
        ("messages", {}),
    ],
)
def test_second_judge_of_anthropic_refuses(path: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        openrouter_messages_body().validate_json(changed(ANTHROPIC, path, value), strict=True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("messages.0.content.0.cache_control", MARK),
        ("messages.0.content.0.type", "input_text"),
        ("messages.1.tool_calls.0.function.arguments", {}),
        ("messages.2.content", [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]),
        ("messages.2.tool_call_id", None),
        ("messages.1.tool_calls.0.cache_control", MARK),
        ("top_k", 5),
        ("response_format", {"type": "yaml"}),
        ("reasoning_effort", "huge"),
        ("tool_choice", {"type": "tool", "name": "f"}),
        ("messages.0.role", "robot"),
        ("messages.0.content.0.prompt_cache_breakpoint", {"mode": "implicit"}),
        ("messages.0.content.0.prompt_cache_breakpoint", {**BREAKPOINT, "ttl": "2h"}),
        ("messages.1.tool_calls.0.prompt_cache_breakpoint", BREAKPOINT),
        ("tools", [{**FUNCTION, "prompt_cache_breakpoint": BREAKPOINT}]),
        ("prompt_cache_options", {"ttl": "12h"}),
        ("prompt_cache_key", 1),
        ("random_seed", 1),
    ],
)
def test_openai_judge_refuses(path: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        openai_body().validate_json(changed(OPENAI, path, value), strict=True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("messages.0.role", "robot"),
        ("messages.0.content.0.cache_control", {**MARK, "ttl": "2h"}),
        ("messages.0.content.0.cache_control", {"type": "persistent"}),
        ("messages.0.content.0", {"type": "text", "text": "Hi", "mark": MARK}),
        ("messages.0.content.0", {"type": "image_url", "image_url": {"url": "u"}, "cache_control": MARK}),
        ("messages.0.content.0", {"type": "image_url", "image_url": {"url": "u", "detail": "huge"}}),
        ("messages.0.content.0.prompt_cache_breakpoint", {"mode": "implicit"}),
        ("messages.1.tool_calls.0.cache_control", MARK),
        ("messages.2.cache_control", MARK),
        ("messages.2.tool_call_id", None),
        ("tools", [{**FUNCTION, "function": {"name": "f", "cache_control": MARK}}]),
        ("reasoning_effort", "huge"),
        ("response_format", {"type": "yaml"}),
        ("tool_choice", "any"),
        ("random_seed", 1),
    ],
)
def test_openrouter_judge_refuses(path: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        openrouter_body().validate_json(changed(OPENAI, path, value), strict=True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("messages.0.role", "developer"),
        ("messages.0.name", "Ann"),
        ("messages.0.content.0.cache_control", MARK),
        ("messages.0.content.0.prompt_cache_breakpoint", BREAKPOINT),
        ("messages.0.content.0", {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:"}}),
        ("tools", [{**FUNCTION, "cache_control": MARK}]),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("prompt_cache_key", 1),
        ("prompt_cache_options", {"mode": "explicit"}),
        ("max_completion_tokens", 1),
        ("reasoning_effort", "huge"),
        ("seed", 1),
        ("stream_options", {"include_usage": True}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema_definition": {}}}),
    ],
)
def test_mistral_judge_refuses(path: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        mistral_body().validate_json(changed(OPENAI, path, value), strict=True)
