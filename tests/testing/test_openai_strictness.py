"""What the OpenAI API refuses, the emulator refuses, with its status, ``param``, ``code`` and words."""

import base64
from typing import Any

import pytest

from lm_deluge.testing import Emulator

PATH = "/v1/chat/completions"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
PDF = base64.b64encode(b"%PDF-1.7\n").decode()
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ASK = {"role": "user", "content": "hi"}
CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def body(**changes: Any) -> dict[str, Any]:
    whole = {"model": "gpt-4.1-mini", "messages": [ASK], **changes}
    return {name: value for name, value in whole.items() if value is not ...}


def parts(*content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}]


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def json_schema(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **more}}


# what is sent -> (a part of the message, param, code)
REFUSED: dict[str, tuple[dict[str, Any], str, str | None, str | None]] = {
    "no model": (body(model=...), "Missing required parameter: 'model'.", "model", "missing_required_parameter"),
    "no messages": (body(messages=...), "'messages'", "messages", "missing_required_parameter"),
    "empty messages": (body(messages=[]), "Invalid 'messages'", "messages", "empty_array"),
    "unknown field": (body(cache_control={}), "Unrecognized request argument supplied: cache_control", None, None),
    "another provider's image": (
        body(messages=parts({"type": "image", "source": {}})),
        "Invalid value: 'image'",
        "messages[0].content[0].type",
        "invalid_value",
    ),
    "unknown nested field": (
        body(messages=[ASK, {**ASK, "cache": 1}]),
        "Unknown parameter: 'messages[1].cache'.",
        "messages[1].cache",
        "unknown_parameter",
    ),
    "wrong type": (
        body(temperature="hot"),
        "Invalid type for 'temperature': expected a decimal or null, but got a string instead.",
        "temperature",
        "invalid_type",
    ),
    "too hot": (body(temperature=3), "Invalid 'temperature'", "temperature", "decimal_above_max_value"),
    "no tokens": (body(max_tokens=0), "Invalid 'max_tokens'", "max_tokens", "integer_below_min_value"),
    "bad role": (
        body(messages=[{"role": "model", "content": "x"}]),
        "Invalid value: 'model'",
        "messages[0].role",
        "invalid_value",
    ),
    "empty parts": (body(messages=parts()), "empty array", "messages[0].content", "empty_array"),
    "silent assistant": (
        body(messages=[ASK, {"role": "assistant", "content": None}, ASK]),
        "expected a string, got null",
        "messages.[1].content",
        None,
    ),
    # models
    "max_tokens for a reasoning model": (
        body(model="gpt-5-mini", max_tokens=5),
        "Use 'max_completion_tokens' instead.",
        "max_tokens",
        "unsupported_parameter",
    ),
    "max_tokens for the o-series": (
        body(model="o4-mini", max_tokens=5),
        "max_tokens",
        "max_tokens",
        "unsupported_parameter",
    ),
    "temperature for a reasoning model": (
        body(model="gpt-6.1-sol", temperature=0.2),
        "Only the default (1) value is supported.",
        "temperature",
        "unsupported_value",
    ),
    "effort for a plain model": (
        body(reasoning_effort="low"),
        "reasoning_effort",
        "reasoning_effort",
        "unsupported_parameter",
    ),
    "unknown effort": (body(model="o3", reasoning_effort="huge"), "'huge'", "reasoning_effort", "invalid_value"),
    # logprobs
    "top_logprobs alone": (body(top_logprobs=2), "only allowed when 'logprobs' is enabled", "top_logprobs", None),
    "too many top_logprobs": (
        body(logprobs=True, top_logprobs=21),
        "Invalid 'top_logprobs'",
        "top_logprobs",
        "integer_above_max_value",
    ),
    # tools
    "tool message without a call": (
        body(messages=[ASK, {"role": "tool", "tool_call_id": "c1", "content": "x"}]),
        "messages with role 'tool' must be a response to a preceding message with 'tool_calls'",
        "messages.[1].role",
        None,
    ),
    "tool message for another call": (
        body(
            messages=[
                ASK,
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c9", "content": ""},
            ]
        ),
        "c9",
        "messages.[2].role",
        None,
    ),
    "call without a tool message": (
        body(messages=[ASK, {"role": "assistant", "tool_calls": [CALL]}, ASK]),
        "The following tool_call_ids did not have response messages: c1",
        "messages.[2].role",
        None,
    ),
    "no tools at all": (body(tools=[]), "Invalid 'tools'", "tools", "empty_array"),
    "two tools with one name": (body(tools=[TOOL, TOOL]), "Duplicate tool name: 'f'", "tools[1]", "invalid_value"),
    "bad tool name": (
        body(tools=[{"type": "function", "function": {"name": "a b"}}]),
        "Invalid 'tools[0].function.name'",
        "tools[0].function.name",
        "invalid_value",
    ),
    "Anthropic's tool shape": (
        body(tools=[{"name": "f", "input_schema": {"type": "object"}}]),
        "Missing required parameter: 'tools[0].type'.",
        "tools[0].type",
        "missing_required_parameter",
    ),
    "open strict tool": (
        body(tools=[{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object"}}}]),
        "'additionalProperties' is required to be supplied and to be false",
        "tools[0].function.parameters",
        "invalid_function_parameters",
    ),
    "choice without tools": (body(tool_choice="auto"), "only allowed when 'tools' are specified", "tool_choice", None),
    "choice of no tool": (
        body(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "g"}}),
        "Tool choice 'g' not found",
        "tool_choice",
        None,
    ),
    "Anthropic's choice": (
        body(tools=[TOOL], tool_choice={"type": "any"}),
        "Invalid value: 'any'",
        "tool_choice.type",
        "invalid_value",
    ),
    # formats
    "format without a name": (
        body(response_format={"type": "json_schema", "json_schema": {"schema": CLOSED}}),
        "Missing required parameter: 'response_format.json_schema.name'",
        "response_format.json_schema.name",
        "missing_required_parameter",
    ),
    "strict format with an optional property": (
        body(response_format=json_schema({**CLOSED, "required": []}, strict=True)),
        "Missing 'a'",
        "response_format",
        None,
    ),
    "strict format, open inside": (
        body(response_format=json_schema({**CLOSED, "properties": {"a": {"type": "object"}}}, strict=True)),
        "In context=('properties', 'a')",
        "response_format",
        None,
    ),
    "JSON not asked for": (
        body(response_format={"type": "json_object"}),
        "must contain the word 'json'",
        "messages",
        None,
    ),
    # streams and caching
    "stream options without a stream": (
        body(stream_options={"include_usage": True}),
        "only allowed when 'stream' is enabled",
        "stream_options",
        None,
    ),
    "cache options before GPT-5.6": (
        body(prompt_cache_options={"mode": "explicit"}),
        "not supported with this model",
        "prompt_cache_options",
        "unsupported_parameter",
    ),
    "a breakpoint before GPT-5.6": (
        body(messages=parts({"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}})),
        "not supported with this model",
        "prompt_cache_breakpoint",
        "unsupported_parameter",
    ),
    "twelve hours in Chat": (
        body(model="gpt-6.1-sol", prompt_cache_options={"ttl": "12h"}),
        "'12h'",
        "prompt_cache_options.ttl",
        "invalid_value",
    ),
    "prewarm in Chat": (
        body(model="gpt-6.1-sol", prompt_cache_options={"prewarm": True}),
        "prompt_cache_options.prewarm",
        "prompt_cache_options.prewarm",
        "unknown_parameter",
    ),
    "implicit breakpoint": (
        body(
            model="gpt-6.1-sol",
            messages=parts({"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "implicit"}}),
        ),
        "'implicit'",
        "messages[0].content[0].prompt_cache_breakpoint.mode",
        "invalid_value",
    ),
    "memory retention on a new model": (
        body(model="gpt-6.1-sol", prompt_cache_retention="in_memory"),
        "prompt_cache_retention",
        "prompt_cache_retention",
        "unsupported_value",
    ),
    # media
    "image that is no base64": (
        body(messages=parts(image("data:image/png;base64,@@"))),
        "Invalid base64 image_url",
        "messages[0].content[0].image_url.url",
        "invalid_base64",
    ),
    "image of no kind": (
        body(messages=parts(image("data:image/png;base64,aGVsbG8="))),
        "unsupported image",
        "messages[0].content[0].image_url.url",
        "invalid_image_format",
    ),
    "image of another kind": (
        body(messages=parts(image("data:image/jpeg;base64," + PNG))),
        "declared as image/jpeg but its bytes are image/png",
        "messages[0].content[0].image_url.url",
        "invalid_image_format",
    ),
    "image by an impossible host": (
        body(messages=parts(image("https://a.invalid/x.png"))),
        "Failed to download image",
        "messages[0].content[0].image_url.url",
        "invalid_image_url",
    ),
    "file without a name": (
        body(messages=parts({"type": "file", "file": {"file_data": "data:application/pdf;base64," + PDF}})),
        "filename",
        "messages[0].content[0].file.filename",
        "missing_required_parameter",
    ),
    "file that is no PDF": (
        body(
            messages=parts(
                {"type": "file", "file": {"filename": "a", "file_data": "data:application/pdf;base64," + PNG}}
            )
        ),
        "not a valid PDF",
        "messages[0].content[0].file.file_data",
        "invalid_value",
    ),
    "file of nothing": (
        body(messages=parts({"type": "file", "file": {}})),
        "exactly one of",
        "messages[0].content[0].file",
        "invalid_value",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, module_emulator: Emulator, ask: Any) -> None:
    sent, message, param, code = REFUSED[case]
    answer = ask(module_emulator, sent, path=PATH)
    assert answer.status == 400, answer.body
    error = answer.json["error"]
    assert message in error["message"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert answer.headers["x-request-id"].startswith("req_")


ACCEPTED: dict[str, dict[str, Any]] = {
    "nulls": body(temperature=None, max_tokens=None, stop=None, logprobs=None, stream=None),
    "image": body(messages=parts(image("data:image/png;base64," + PNG), {"type": "text", "text": "x"})),
    "image elsewhere": body(messages=parts(image("http://example.com/a.png"))),
    "file": body(
        messages=parts(
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64," + PDF}}
        )
    ),
    "breakpoints": body(
        model="gpt-5.6-mini",
        prompt_cache_options={"mode": "explicit", "ttl": "30m"},
        messages=parts({"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}),
    ),
    "a model nobody knows": body(
        model="my-model", max_tokens=5, temperature=0.5, reasoning_effort="low", prompt_cache_options={}
    ),
    "default sampling on a reasoning model": body(model="o3", temperature=1, top_p=1, max_completion_tokens=50),
    "a chat variant does not reason": body(model="gpt-5-chat-latest", temperature=0.2, max_tokens=5),
    "tools answered": body(
        tools=[TOOL],
        messages=[
            ASK,
            {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "c2"}]},
            {"role": "tool", "tool_call_id": "c2", "content": "b"},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "a"}]},
        ],
    ),
    "json asked for": body(
        messages=[{"role": "system", "content": "Answer in JSON."}, ASK], response_format={"type": "json_object"}
    ),
    "strict format": body(response_format=json_schema(CLOSED, strict=True)),
    "allowed tools": body(
        tools=[TOOL], tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}}
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case: str, module_emulator: Emulator, ask: Any) -> None:
    answer = ask(module_emulator, ACCEPTED[case], path=PATH)
    assert answer.status == 200, answer.body


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer  ", "Basic abc"])
def test_no_credential(header: str, module_emulator: Emulator, ask: Any) -> None:
    answer = ask(module_emulator, body(), path=PATH, headers={"authorization": header, "x-api-key": "k"})
    assert (answer.status, answer.json["error"]["code"]) == (401, "missing_api_key")


def test_only_named_models_exist_when_names_are_given(ask: Any) -> None:
    with Emulator(models=["gpt-4.1"]) as emulator:
        assert ask(emulator, body(model="gpt-4.1"), path=PATH).status == 200
        answer = ask(emulator, body(model="gpt-9"), path=PATH)
    assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")


def test_other_paths_and_methods(module_emulator: Emulator, ask: Any) -> None:
    assert ask(module_emulator, body(), path="/v1/completions").status == 404
    assert ask(module_emulator, method="GET", path=PATH).status == 405
    wrong = ask(module_emulator, body(), path="/v1/messages/batch")
    assert (wrong.status, wrong.json["error"]["type"]) == (404, "not_found_error")
