"""What the Anthropic API refuses, the emulator refuses, with its status, error type and words."""

import base64
from typing import Any

import pytest

from lm_deluge.testing import Emulator

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
PDF = base64.b64encode(b"%PDF-1.7\n").decode()
MARK = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
CALL = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}


def body(**changes: Any) -> dict[str, Any]:
    whole = {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}
    whole.update(changes)
    return {name: value for name, value in whole.items() if value is not ...}


def user(*blocks: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(blocks)}]


def image(**source: Any) -> dict[str, Any]:
    return {"type": "image", "source": source}


def text(value: str = "x", **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **more}


def turns(*contents: Any) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[index % 2], "content": each} for index, each in enumerate(contents)]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no max_tokens": (body(max_tokens=...), "max_tokens: Field required"),
    "no messages": (body(messages=...), "messages: Field required"),
    "empty messages": (body(messages=[]), "messages: at least one message is required"),
    "unknown field": (body(max_completion_tokens=5), "max_completion_tokens: Extra inputs are not permitted"),
    "wrong type": (body(max_tokens="64"), "max_tokens: Input should be a valid integer"),
    "negative limit": (body(max_tokens=-1), "max_tokens: Input should be an integer greater than or equal to 0"),
    "temperature above 1": (body(temperature=1.5), "temperature: Input should be a number less than or equal to 1"),
    "diagnostics of another kind": (body(diagnostics="msg_1"), "diagnostics: Input should be"),
    "a number for an id": (
        body(diagnostics={"previous_message_id": 1}),
        "diagnostics.previous_message_id: Input should be a valid string",
    ),
    "an unknown diagnosis": (
        body(diagnostics={"verbose": True}),
        "diagnostics.verbose: Extra inputs are not permitted",
    ),
    "bad role": (body(messages=[{"role": "tool", "content": "x"}]), "messages.0.role: Input 'tool' does not match"),
    "the failing message is named": (
        body(messages=[*turns("a", "b"), {"role": "user", "content": [text(), {"type": "text", "text": 5}]}]),
        "messages.2.content.1.text: Input should be a valid string",
    ),
    "unknown block": (body(messages=user({"type": "audio"})), "messages.0.content.0.type: Input 'audio' does not"),
    "field of another provider": (
        body(messages=user(text(prompt_cache_breakpoint={"mode": "explicit"}))),
        "messages.0.content.0.prompt_cache_breakpoint: Extra inputs are not permitted",
    ),
    "empty content": (body(messages=[{"role": "user", "content": ""}]), "messages.0: all messages must have non-empty"),
    "empty text block": (body(messages=user(text(""))), "messages: text content blocks must be non-empty"),
    "blank text block": (body(messages=user(text(" \n"))), "messages: text content blocks must contain non-whitespace"),
    "empty system block": (body(system=[text("")]), "system: text content blocks must be non-empty"),
    "assistant first": (body(messages=turns("a", "b")[1:]), 'messages: first message must use the "user" role'),
    "prefill with trailing space": (body(messages=turns("a", "b ")), "cannot end with trailing whitespace"),
    "prefill on a model without it": (
        body(model="claude-haiku-5-5", messages=turns("a", "b")),
        "does not support assistant message prefill",
    ),
    "prefill on Sonnet 4.6": (
        body(model="claude-sonnet-4-6", messages=turns("a", "b")),
        "The conversation must end with a user message.",
    ),
    "blank stop sequence": (body(stop_sequences=[" "]), "stop_sequences: each stop sequence must contain"),
    # tools
    "result without a call": (body(messages=user(RESULT)), "messages.0.content.0: unexpected `tool_use_id` found"),
    "result for an earlier call": (
        body(messages=turns("a", [CALL], [RESULT], "b", [RESULT])),
        "messages.4.content.0: unexpected `tool_use_id`",
    ),
    "call without a result": (
        body(messages=turns("a", [CALL], "b")),
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1",
    ),
    "text before the result": (
        body(messages=turns("a", [CALL], [text(), RESULT])),
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1",
    ),
    "two calls with one id": (body(messages=turns("a", [CALL, CALL], [RESULT])), "`tool_use` ids must be unique"),
    "call by the user": (body(messages=user(CALL)), "`tool_use` blocks can only be in `assistant` messages"),
    "result by the assistant": (
        body(messages=turns("a", [CALL], [RESULT], [RESULT])),
        "`tool_result` blocks can only be in `user` messages",
    ),
    "two tools with one name": (body(tools=[TOOL, TOOL]), "tools: Tool names must be unique."),
    "bad tool name": (body(tools=[{**TOOL, "name": "a b"}]), "tools.0.custom.name: Input should be a string matching"),
    "OpenAI's tool shape": (
        body(tools=[{"type": "function", "function": {"name": "f"}, "cache_control": {"type": "forever"}}]),
        "tools.0.custom.cache_control.type",
    ),
    "unknown tool field": (body(tools=[{**TOOL, "parameters": {}}]), "tools.0.custom.parameters: Extra inputs"),
    "tool without a schema": (body(tools=[{"name": "f"}]), "tools.0.custom.input_schema: Field required"),
    "schema of no object": (body(tools=[{**TOOL, "input_schema": {"type": "array"}}]), "input_schema.type"),
    "choice without tools": (body(tool_choice={"type": "auto"}), "tool_choice: may only be specified while providing"),
    "choice as a string": (body(tools=[TOOL], tool_choice="auto"), "tool_choice: Input should be a valid dictionary"),
    "choice of no tool": (body(tools=[TOOL], tool_choice={"type": "tool", "name": "g"}), "Tool 'g' not found"),
    "forced tool on a model without it": (
        body(model="claude-sonnet-5-5", tools=[TOOL], tool_choice={"type": "any"}),
        "forcing tool use is not supported by claude-sonnet-5-5",
    ),
    "too many strict tools": (
        body(tools=[{**TOOL, "name": f"f{number}", "strict": True} for number in range(21)]),
        "at most 20 tools may be strict",
    ),
    "too many optional parameters": (
        body(
            tools=[
                {
                    **TOOL,
                    "strict": True,
                    "input_schema": {"type": "object", "properties": {f"p{n}": {} for n in range(25)}},
                }
            ]
        ),
        "at most 24 optional parameters",
    ),
    "too many unions": (
        body(
            tools=[
                {
                    "name": name,
                    "strict": True,
                    "input_schema": {
                        "type": "object",
                        "properties": {f"p{n}": {"type": ["string", "null"]} for n in range(9)},
                        "required": [f"p{n}" for n in range(9)],
                    },
                }
                for name in "fg"
            ]
        ),
        "at most 16 union-typed parameters",
    ),
    # cache marks
    "five marks": (
        body(system=[text(cache_control=MARK)], messages=user(*[text(cache_control=MARK)] * 4)),
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    "five marks, one automatic": (
        body(cache_control=MARK, messages=user(*[text(cache_control=MARK)] * 4, text())),
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    "five marks, one inside a result": (
        body(
            messages=turns(
                "a", [CALL], [{**RESULT, "content": [text(cache_control=MARK)]}, *[text(cache_control=MARK)] * 4]
            )
        ),
        "Found 5.",
    ),
    "an hour after five minutes": (
        body(system=[text(cache_control=MARK)], messages=user(text(cache_control=HOUR))),
        "messages.0.content.0.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m'",
    ),
    "an hour on the system after five minutes on a tool": (
        body(tools=[{**TOOL, "cache_control": MARK}], system=[text(cache_control=HOUR)]),
        "system.0.cache_control.ttl: a ttl='1h' cache_control block must not come after",
    ),
    "automatic hour after five minutes": (
        body(cache_control=HOUR, messages=user(text(cache_control=MARK), text())),
        "must not come after a ttl='5m'",
    ),
    "automatic mark of another lifetime": (
        body(cache_control=HOUR, messages=user(text(cache_control=MARK))),
        "already has cache_control with a different ttl",
    ),
    "bad lifetime": (
        body(system=[text(cache_control={"type": "ephemeral", "ttl": "30m"})]),
        "system.0.cache_control.ttl: Input '30m' does not match",
    ),
    "bad kind of mark": (body(system=[text(cache_control={"type": "persistent"})]), "system.0.cache_control.type"),
    "mark on an empty block": (
        body(messages=user(text(), text("", cache_control=MARK))),
        "messages.0.content.1.cache_control: cache_control cannot be set for empty text blocks",
    ),
    "empty text inside a result": (
        body(messages=turns("a", [CALL], [{**RESULT, "content": [text("")]}])),
        "messages: text content blocks must be non-empty",
    ),
    "mark on empty text inside a result": (
        body(messages=turns("a", [CALL], [{**RESULT, "content": [text("", cache_control=MARK)]}])),
        "messages.2.content.0.content.0.cache_control: cache_control cannot be set for empty text blocks",
    ),
    "mark on a thought": (
        body(messages=turns("a", [{"type": "thinking", "thinking": "", "signature": "s", "cache_control": MARK}], "b")),
        "messages.1.content.0.cache_control: Extra inputs are not permitted",
    ),
    "mark on a deferred tool": (
        body(tools=[{**TOOL, "defer_loading": True, "cache_control": MARK}]),
        "a tool with defer_loading cannot have cache_control",
    ),
    # thinking
    "small budget": (
        body(thinking={"type": "enabled", "budget_tokens": 10}),
        "thinking.budget_tokens: Input should be",
    ),
    "budget above the limit": (
        body(thinking={"type": "enabled", "budget_tokens": 2048}),
        "`max_tokens` must be greater than `thinking.budget_tokens`",
    ),
    "thinking and temperature": (
        body(max_tokens=4096, thinking={"type": "enabled", "budget_tokens": 2048}, temperature=0.5),
        "`temperature` may only be set to 1",
    ),
    "thinking and a forced tool": (
        body(
            max_tokens=4096,
            thinking={"type": "enabled", "budget_tokens": 2048},
            tools=[TOOL],
            tool_choice={"type": "any"},
        ),
        "Thinking may not be enabled when tool_choice forces tool use.",
    ),
    "budgets on a fifth-generation model": (
        body(model="claude-haiku-5-5", max_tokens=4096, thinking={"type": "enabled", "budget_tokens": 2048}),
        '"thinking.type.enabled" is not supported for this model',
    ),
    "budgets on Opus 4.7": (
        body(model="claude-opus-4-7", max_tokens=4096, thinking={"type": "enabled", "budget_tokens": 2048}),
        'Use "thinking.type.adaptive" and "output_config.effort"',
    ),
    "no thinking on Opus 5.5": (body(model="claude-opus-5-5", thinking={"type": "disabled"}), "thinking.type.disabled"),
    "no thinking on Sonnet 5.5": (body(model="claude-sonnet-5-5", thinking={"type": "disabled"}), "thinking.type.dis"),
    "between tools on Fable": (body(model="claude-fable-5-2", thinking={"type": "between_tools"}), "between_tools"),
    "adaptive on Haiku 4.5": (
        body(model="claude-haiku-4-5", thinking={"type": "adaptive"}),
        "adaptive thinking is not",
    ),
    "a thought nobody signed": (
        body(messages=turns("a", [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}], "b")),
        "messages.1.content.0: Invalid `signature` in `thinking` block",
    ),
    # sampling
    "temperature on Opus 4.7": (body(model="claude-opus-4-7", temperature=0.5), "`temperature` is not supported"),
    "top_k on Haiku 5.5": (body(model="claude-haiku-5-5", top_k=5), "`top_k` is not supported for this model"),
    # pre-warming
    "prewarm with a stream": (body(max_tokens=0, stream=True), "max_tokens: 0 cannot be combined with stream"),
    "prewarm with a forced tool": (body(max_tokens=0, tools=[TOOL], tool_choice={"type": "any"}), "forced tool_choice"),
    "prewarm with a format": (
        body(max_tokens=0, output_config={"format": {"type": "json_schema", "schema": {}}}),
        "cannot be combined with output_config.format",
    ),
    "prewarm with budgets": (body(max_tokens=0, thinking={"type": "enabled", "budget_tokens": 1024}), "thinking.type"),
    # media
    "image of no type": (body(messages=user(image(type="base64", media_type="image/tiff", data=PNG))), "media_type"),
    "image that is no base64": (
        body(messages=user(image(type="base64", media_type="image/png", data="data:image/png;base64," + PNG))),
        "messages.0.content.0.source.base64.data: invalid base64 data",
    ),
    "image of another type": (
        body(messages=user(image(type="base64", media_type="image/jpeg", data=PNG))),
        "specified using the image/jpeg media type, but the image appears to be a image/png image",
    ),
    "image that is none": (
        body(messages=user(image(type="base64", media_type="image/png", data="aGVsbG8="))),
        "Could not process image",
    ),
    "image inside a result": (
        body(
            messages=turns(
                "a", [CALL], [{**RESULT, "content": [image(type="base64", media_type="image/png", data="aGVsbG8=")]}]
            )
        ),
        "messages.2.content.0.content.0.source.base64: Could not process image",
    ),
    "document that is no PDF": (
        body(
            messages=user(
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PNG}}
            )
        ),
        "The PDF specified was not valid.",
    ),
    "document of no type": (
        body(messages=user({"type": "document", "source": {"type": "base64", "media_type": "text/html", "data": PDF}})),
        "messages.0.content.0.source.media_type",
    ),
    "image by a file path": (body(messages=user(image(type="url", url="file:///etc/passwd"))), "only http and https"),
    "image by an impossible host": (body(messages=user(image(type="url", url="https://a.invalid/x.png"))), "host"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, module_emulator: Emulator, ask: Any) -> None:
    sent, message = REFUSED[case]
    answer = ask(module_emulator, sent)
    assert answer.status == 400, answer.body
    assert answer.json["type"] == "error"
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert message in answer.json["error"]["message"]
    assert answer.json["request_id"] == answer.headers["request-id"]


ACCEPTED: dict[str, dict[str, Any]] = {
    "consecutive turns of one role": body(messages=[*user(text()), *user(text())]),
    "results before text": body(messages=turns("a", [CALL], [RESULT, text()])),
    "results over two messages": body(
        messages=[*turns("a", [CALL, {**CALL, "id": "t2"}]), *user(RESULT), *user({**RESULT, "tool_use_id": "t2"})]
    ),
    "prefill on an older model": body(messages=turns("a", "b")),
    "four marks": body(messages=user(*[text(cache_control=HOUR)] * 2, *[text(cache_control=MARK)] * 2)),
    "automatic mark where one is": body(cache_control=MARK, messages=user(*[text(cache_control=MARK)] * 4)),
    "default sampling on a model without any": body(model="claude-haiku-5-5", temperature=1, top_p=1.0),
    "a server tool": body(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]),
    "a later system message": body(messages=[*user(text()), {"role": "system", "content": "be brief"}, *user(text())]),
    "pdf": body(
        messages=user({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}})
    ),
    "documents of text and of blocks": body(
        messages=user(
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a"}, "title": "t"},
            {"type": "document", "source": {"type": "content", "content": [text()]}, "citations": {"enabled": True}},
        )
    ),
    "image by URL elsewhere": body(messages=user(image(type="url", url="https://example.com/a.png"))),
    "between tools": body(model="claude-sonnet-5-5", thinking={"type": "between_tools"}),
    "all the rest": body(
        system="be kind",
        stop_sequences=["END"],
        metadata={"user_id": "u"},
        service_tier="auto",
        diagnostics={},
        top_k=5,
        output_config={"effort": "low"},
        tools=[TOOL],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case: str, module_emulator: Emulator, ask: Any) -> None:
    answer = ask(module_emulator, ACCEPTED[case])
    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    ("drop", "headers", "status", "kind"),
    [
        (("authorization",), {}, 401, "authentication_error"),
        ((), {"authorization": "Bearer "}, 401, "authentication_error"),
        ((), {"authorization": "Basic abc"}, 401, "authentication_error"),
        (("authorization",), {"x-api-key": " "}, 401, "authentication_error"),
        (("anthropic-version",), {}, 400, "invalid_request_error"),
        ((), {"anthropic-version": "2024-01-01"}, 400, "invalid_request_error"),
        ((), {"content-type": "text/plain"}, 400, "invalid_request_error"),
    ],
)
def test_headers(
    drop: tuple[str, ...], headers: dict[str, str], status: int, kind: str, module_emulator: Emulator, ask: Any
) -> None:
    answer = ask(module_emulator, body(), drop=drop, headers=headers)
    assert (answer.status, answer.json["error"]["type"]) == (status, kind)


def test_either_credential_header_will_do(module_emulator: Emulator, ask: Any) -> None:
    assert ask(module_emulator, body()).status == 200
    assert ask(module_emulator, body(), drop=("authorization",), headers={"x-api-key": "k"}).status == 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 1}, "temperature: Extra inputs are not permitted"),
        ({"top_p": 1}, "top_p: Extra inputs are not permitted"),
        ({"top_k": 0}, "top_k: Extra inputs are not permitted"),
        (
            {"messages": turns("a", [{"type": "document", "source": {"type": "url", "url": "https://a.com/b"}}], "c")},
            "`document` blocks are not allowed in `assistant` messages",
        ),
        ({"messages": user(text(citations=[{"type": "char_location"}]))}, "citations are not allowed"),
    ],
)
def test_the_newest_version_is_stricter(
    changes: dict[str, Any], message: str, module_emulator: Emulator, ask: Any
) -> None:
    newest = {"anthropic-version": "2026-10-21"}
    assert ask(module_emulator, body(**changes)).status == 200
    answer = ask(module_emulator, body(**changes), headers=newest)
    assert answer.status == 400
    assert message in answer.json["error"]["message"]


def test_a_body_that_is_no_json(module_emulator: Emulator, ask: Any) -> None:
    for broken in (b"", b"{", b"\xff\xfe", b"[]"):
        assert ask(module_emulator, broken).status == 400


def test_counting_tokens_takes_the_prompt_alone(module_emulator: Emulator, ask: Any) -> None:
    path = "/v1/messages/count_tokens"
    answer = ask(module_emulator, body(max_tokens=...), path=path)
    assert (answer.status, answer.json) == (200, {"input_tokens": 1})
    answer = ask(module_emulator, body(), path=path)
    assert answer.status == 400
    assert answer.json["error"]["message"] == "max_tokens: Extra inputs are not permitted"


def test_only_named_models_exist_when_names_are_given(ask: Any) -> None:
    with Emulator(models=["claude-haiku-4-5"]) as emulator:
        assert ask(emulator, body(model="claude-haiku-4-5")).status == 200
        answer = ask(emulator, body(model="claude-haiku-9"))
    assert (answer.status, answer.json["error"]["type"]) == (404, "not_found_error")


def test_a_body_above_32_megabytes(module_emulator: Emulator, ask: Any) -> None:
    answer = ask(module_emulator, body(system="x" * (32 * 1024 * 1024)))
    assert (answer.status, answer.json["error"]["type"]) == (413, "request_too_large")
