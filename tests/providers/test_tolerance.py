"""Servers that write Chat Completions in their own way, as they were seen to do."""

import json
from typing import Any

import pytest

from lm_deluge.models import resolve
from lm_deluge.prompt import Text, Thinking, ToolCall
from lm_deluge.providers import Reply, parse
from lm_deluge.usage import Usage
from lm_deluge.wire import HttpResponse

GPT = resolve("gpt-4.1", environ={})


def reply(message: Any, *, usage: Any = None, **choice: Any) -> Reply:
    return read(json.dumps({"choices": [{"message": message, **choice}], "usage": usage}).encode())


def read(body: bytes) -> Reply:
    found = parse(GPT, HttpResponse(status=200, headers={}, body=body), now=0.0)
    assert isinstance(found, Reply), found
    return found


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning(name: str) -> None:
    assert reply({"content": "Hi", name: "Hm"}).content.parts == (Thinking("Hm"), Text("Hi"))


def test_both_reasoning_fields_are_one() -> None:
    found = reply({"content": "Hi", "reasoning_content": "Hm", "reasoning": "Hm"})
    assert found.content.parts == (Thinking("Hm"), Text("Hi"))


def test_content_as_parts() -> None:
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "H"}, {"type": "text", "text": "m"}]},
        {"type": "text", "text": "Hi"},
    ]
    assert reply({"content": content}).content.parts == (Thinking("Hm"), Text("Hi"))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ({"function": {"name": "f", "arguments": {"a": 1}}}, ToolCall("call_0", "f", {"a": 1})),
        ({"id": None, "function": {"name": "f", "arguments": ""}}, ToolCall("call_0", "f")),
        ({"id": "x", "function": {"name": "f", "arguments": None}}, ToolCall("x", "f")),
        ({"id": "x", "function": {"name": "f", "arguments": "[1]"}}, ToolCall("x", "f", {"_raw": "[1]"})),
        ({"id": "x", "function": None}, ToolCall("x", "")),
    ],
)
def test_tool_calls(call: dict, expected: ToolCall) -> None:
    assert reply({"content": None, "tool_calls": [call]}).content.parts == (expected,)


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else 1


@pytest.mark.parametrize("value", [2**70, nested(300)], ids=["integer", "nesting"])
def test_what_no_prompt_can_hold_is_kept_as_text(value: Any) -> None:
    text = json.dumps({"x": value}, separators=(",", ":"))
    kept = ToolCall("c", "f", {"_raw": text})
    for arguments in (text, {"x": value}):
        call = {"id": "c", "function": {"name": "f", "arguments": arguments}}
        assert reply({"content": None, "tool_calls": [call]}).content.parts == (kept,)
    blocks = [{"type": "tool_use", "id": "c", "name": "f", "input": {"x": value}}, {"type": "odd", "x": value}]
    claude = resolve("claude-sonnet-4-5", environ={})
    body = json.dumps({"content": blocks}).encode()
    found = parse(claude, HttpResponse(status=200, headers={}, body=body), now=0.0)
    assert isinstance(found, Reply)
    assert found.content.parts[0] == kept
    assert found.content.parts[1].wire == "unreadable"


@pytest.mark.parametrize(
    ("reason", "normalized"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("model_length", "length"),
        ("content_filter", "content_filter"),
        ("function_call", "tool_calls"),
        ("insufficient_system_resource", "insufficient_system_resource"),
        (None, None),
    ],
)
def test_finish_reasons(reason: str | None, normalized: str | None) -> None:
    assert reply({"content": "Hi"}, finish_reason=reason).finish_reason == normalized


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ("lots", None),
        ({"prompt_tokens": "many", "completion_tokens": True}, Usage()),
        ({"prompt_tokens": 7.0, "completion_tokens": -2}, Usage(input_tokens=7)),
        (
            {"prompt_tokens": 10, "prompt_cache_hit_tokens": 8, "completion_tokens": 1},
            Usage(input_tokens=2, cache_read_tokens=8, output_tokens=1),
        ),
        (
            {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 99, "cache_write_tokens": 5}},
            Usage(cache_read_tokens=10),
        ),
        (
            # Gemini: thinking is in the total alone.
            {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 35},
            Usage(input_tokens=9, output_tokens=26),
        ),
        (
            # xAI: reasoning is not part of completion_tokens.
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            Usage(input_tokens=32, output_tokens=103, reasoning_tokens=94),
        ),
        ({"prompt_tokens": 10**30, "completion_tokens": 1}, Usage(input_tokens=2**53 - 1, output_tokens=1)),
    ],
)
def test_usage(usage: Any, expected: Usage | None) -> None:
    assert reply({"content": "Hi"}, usage=usage).usage == expected


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'"half an emoji: \\ud83d"', "half an emoji: ?"),
        (b'"raw \xff byte"', "raw \ufffd byte"),
        (b'"raw\ttab"', "raw\ttab"),
        (b'"\\u0000"', "\x00"),
        (b'"ok"},"x":NaN,"y":{"z":1e999', "ok"),
    ],
)
def test_an_answer_is_not_lost_to_bad_json(content: bytes, text: str) -> None:
    assert read(b'\xef\xbb\xbf{"choices":[{"message":{"content":' + content + b"}}]}").content.completion == text


def test_only_the_first_choice_counts() -> None:
    body = {"choices": [{"index": 0, "message": {"content": "a"}}, {"index": 1, "message": {"content": "b"}}]}
    assert read(json.dumps(body).encode()).content.completion == "a"


def test_logprobs_of_another_shape_are_none() -> None:
    assert reply({"content": "Hi"}, logprobs={"tokens": ["Hi"], "token_logprobs": [-1]}).logprobs is None
