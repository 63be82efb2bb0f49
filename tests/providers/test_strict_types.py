"""The judge itself is judged: it has to see what the SDKs' types as they are let pass."""

import copy
import json
from typing import Any

import pytest

from .strict_types import ValidationError, anthropic_body, openai_body

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


def changed(body: dict[str, Any], path: str, value: Any) -> bytes:
    body = copy.deepcopy(body)
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    place: Any = body
    for step in steps:
        place = place[step]
    place[last] = value
    return json.dumps(body).encode()


def test_accepts_what_the_apis_document() -> None:
    anthropic_body().validate_json(json.dumps(ANTHROPIC), strict=True)
    openai_body().validate_json(json.dumps(OPENAI), strict=True)


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
    ],
)
def test_openai_judge_refuses(path: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        openai_body().validate_json(changed(OPENAI, path, value), strict=True)
