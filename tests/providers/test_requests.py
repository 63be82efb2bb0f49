"""What goes into a request besides the messages: address, headers, parameters, breakpoints; and what is refused."""

import json
from typing import Any

import pytest

from lm_deluge.config import SamplingParams
from lm_deluge.errors import ConfigError, LMDelugeError, PromptError
from lm_deluge.models import resolve
from lm_deluge.prompt import Conversation, File, Image, Message, ProviderBlock, Text, Thinking, ToolCall, ToolResult
from lm_deluge.providers import build, wire_format
from lm_deluge.request import Breakpoint, Request
from lm_deluge.tool import Tool
from lm_deluge.wire import HttpRequest

HI = Conversation.user("Hi")
EPHEMERAL = {"type": "ephemeral"}


def sent(name: str, conversation: Conversation = HI, *, base_url: str | None = None, **fields: Any) -> HttpRequest:
    model = resolve(name, base_url=base_url, environ={})
    return build(Request(conversation=conversation, model=model, **fields), credential="sk-secret-key")


def names_dropped(name: str, params: SamplingParams, *, has_schema: bool = False) -> tuple[str, ...]:
    model = resolve(name, environ={})
    return wire_format(model).dropped_parameters(model, params, has_schema=has_schema)


def body(name: str, conversation: Conversation = HI, **fields: Any) -> dict[str, Any]:
    return json.loads(sent(name, conversation, **fields).body)


# Addresses and headers


@pytest.mark.parametrize(
    ("name", "base_url", "url"),
    [
        ("gpt-4.1", None, "https://api.openai.com/v1/chat/completions"),
        ("gpt-4.1", "http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions"),
        ("claude-sonnet-4-5", None, "https://api.anthropic.com/v1/messages"),
        ("claude-sonnet-4-5", "http://localhost:8000", "http://localhost:8000/v1/messages"),
        ("claude-sonnet-4-5", "http://localhost:8000/v1", "http://localhost:8000/v1/messages"),
        ("openrouter/anthropic/claude-sonnet-4.5", None, "https://openrouter.ai/api/v1/chat/completions"),
    ],
)
def test_url(name: str, base_url: str | None, url: str) -> None:
    assert sent(name, base_url=base_url).url == url


def test_headers() -> None:
    assert sent("gpt-4.1").headers["authorization"] == "Bearer sk-secret-key"
    headers = sent("claude-sonnet-4-5").headers
    assert headers["x-api-key"] == "sk-secret-key"
    assert headers["anthropic-version"] == "2023-06-01"
    assert headers["content-type"] == headers["accept"] == "application/json"
    assert headers["user-agent"].startswith("lm_deluge/")


def test_newer_anthropic_version_takes_a_bearer_token() -> None:
    headers = sent("claude-sonnet-4-5", extra_headers={"Anthropic-Version": "2026-10-21"}).headers
    assert headers["anthropic-version"] == "2026-10-21"
    assert headers["authorization"] == "Bearer sk-secret-key"
    assert "x-api-key" not in headers


def test_extra_headers_win_whatever_their_case() -> None:
    headers = sent("gpt-4.1", extra_headers={"AUTHORIZATION": "Basic abc", "X-Team": "a"}).headers
    assert headers["authorization"] == "Basic abc"
    assert headers["x-team"] == "a"
    assert all(name == name.lower() for name in headers)


def test_extra_body_wins_at_the_top_level() -> None:
    params = SamplingParams(temperature=0.5)
    written = body("gpt-4.1", params=params, extra_body={"temperature": 1, "user": "u"})
    assert (written["temperature"], written["user"]) == (1, "u")


@pytest.mark.parametrize("name", ["gpt-4.1", "claude-sonnet-4-5"])
def test_no_credential_sends_none(name: str) -> None:
    model = resolve(name, base_url="http://localhost:1", environ={})
    headers = build(Request(conversation=HI, model=model), credential=None).headers
    assert not {"authorization", "x-api-key"} & headers.keys()


@pytest.mark.parametrize("key", ["sk-hush\n", "sk-hush\r\nx: y", "sk hush", "sk-hüsh", "sk-\x00hush"])
def test_impossible_credentials_are_refused_unseen(key: str) -> None:
    request = Request(conversation=HI, model=resolve("gpt-4.1", environ={}))
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        build(request, credential=key)
    assert "sh" not in str(caught.value).replace("should", "")
    assert caught.value.__cause__ is None


def test_stream_is_asked_for() -> None:
    for name, options in (("gpt-4.1", {"include_usage": True}), ("claude-sonnet-4-5", None)):
        request = build(Request(conversation=HI, model=resolve(name, environ={})), credential=None, stream=True)
        written = json.loads(request.body)
        assert request.headers["accept"] == "text/event-stream"
        assert (written["stream"], written.get("stream_options")) == (True, options)


# Parameters

FULL = SamplingParams(
    temperature=0,
    top_p=0.9,
    max_new_tokens=5,
    json_mode=True,
    logprobs=True,
    top_logprobs=0,
    seed=0,
    stop=("END",),
)


def test_what_is_not_set_is_not_sent() -> None:
    assert body("gpt-4.1").keys() == {"model", "messages"}
    assert body("claude-sonnet-4-5").keys() == {"model", "messages", "max_tokens"}
    assert body("claude-sonnet-4-5")["max_tokens"] == 4096


def test_openai_parameters() -> None:
    written = body("gpt-4.1", params=FULL)
    assert {name: value for name, value in written.items() if name not in ("model", "messages")} == {
        "temperature": 0,
        "top_p": 0.9,
        "max_completion_tokens": 5,
        "logprobs": True,
        "top_logprobs": 0,
        "seed": 0,
        "stop": ["END"],
        "response_format": {"type": "json_object"},
    }
    assert names_dropped("gpt-4.1", FULL) == ()


def test_max_tokens_under_the_name_that_the_service_knows() -> None:
    assert body("deepseek/deepseek-chat", params=FULL)["max_tokens"] == 5


def test_anthropic_parameters() -> None:
    written = body("claude-sonnet-4-5", params=FULL)
    assert {name: value for name, value in written.items() if name not in ("model", "messages")} == {
        "temperature": 0,
        "top_p": 0.9,
        "max_tokens": 5,
        "stop_sequences": ["END"],
    }
    assert names_dropped("claude-sonnet-4-5", FULL) == ("logprobs", "top_logprobs", "seed", "json_mode")
    assert "json_mode" not in names_dropped("claude-sonnet-4-5", FULL, has_schema=True)


def test_rejected_parameters_are_left_out_and_named() -> None:
    assert body("o3", params=FULL).keys().isdisjoint({"temperature", "top_p", "logprobs", "top_logprobs"})
    assert names_dropped("o3", FULL) == ("temperature", "top_p", "logprobs", "top_logprobs")
    assert body("claude-opus-5-5", params=FULL).keys().isdisjoint({"temperature", "top_p"})
    assert {"temperature", "top_p"} <= set(names_dropped("claude-opus-5-5", FULL))


def test_an_effort_brings_sampling_back_where_the_model_allows_it() -> None:
    written = body("gpt-6.1-sol", params=SamplingParams(temperature=0, reasoning_effort="none"))
    assert (written["temperature"], written["reasoning_effort"]) == (0, "none")


def test_effort_goes_to_models_that_reason_or_are_not_known() -> None:
    params = SamplingParams(reasoning_effort="low", thinking_budget=1024)
    assert body("o3", params=params)["reasoning_effort"] == "low"
    assert body("groq/some-model", params=params)["reasoning_effort"] == "low"
    assert "reasoning_effort" not in body("gpt-4.1", params=params)
    assert names_dropped("gpt-4.1", params) == ("reasoning_effort", "thinking_budget")


BUDGET = SamplingParams(thinking_budget=2000, temperature=0.5)


@pytest.mark.parametrize(
    ("name", "params", "thinking", "effort", "dropped"),
    [
        ("claude-3-7-sonnet", BUDGET, {"type": "enabled", "budget_tokens": 2000}, None, ("temperature",)),
        ("claude-sonnet-4", BUDGET, {"type": "enabled", "budget_tokens": 2000}, None, ("temperature",)),
        ("claude-haiku-4-5", BUDGET, {"type": "enabled", "budget_tokens": 2000}, None, ("temperature",)),
        ("claude-opus-4-8", BUDGET, {"type": "adaptive"}, None, ("temperature", "thinking_budget")),
        ("claude-haiku-5-5", BUDGET, {"type": "adaptive"}, None, ("temperature", "thinking_budget")),
        ("claude-3-5-haiku", BUDGET, None, None, ("thinking_budget",)),
        ("claude-sonnet-4-5", SamplingParams(reasoning_effort="high"), None, None, ("reasoning_effort",)),
        ("claude-sonnet-4-5", SamplingParams(reasoning_effort="none"), None, None, ()),
        ("claude-opus-4-5", SamplingParams(reasoning_effort="high"), None, "high", ()),
        ("claude-opus-4-6", SamplingParams(reasoning_effort="minimal"), {"type": "adaptive"}, "low", ()),
        ("claude-sonnet-5-5", SamplingParams(reasoning_effort="max"), {"type": "adaptive"}, "max", ()),
        ("claude-opus-4-7", SamplingParams(reasoning_effort="none"), None, None, ()),
        ("claude-haiku-5-5", SamplingParams(reasoning_effort="none"), {"type": "disabled"}, None, ()),
        ("claude-sonnet-5-5", SamplingParams(reasoning_effort="none"), {"type": "between_tools"}, None, ()),
        ("claude-opus-5-5", SamplingParams(reasoning_effort="none"), None, "low", ()),
        ("claude-fable-5-2", SamplingParams(reasoning_effort="none"), None, "low", ()),
    ],
)
def test_claude_thinking(
    name: str, params: SamplingParams, thinking: dict | None, effort: str | None, dropped: tuple[str, ...]
) -> None:
    written = body(name, params=params)
    assert written.get("thinking") == thinking
    assert written.get("output_config", {}).get("effort") == effort
    assert names_dropped(name, params) == dropped
    assert ("temperature" in written) == (params.temperature is not None and "temperature" not in dropped)


def test_the_default_limit_leaves_room_beside_a_thinking_budget() -> None:
    assert body("claude-sonnet-4-5", params=BUDGET)["max_tokens"] == 6096
    limited = BUDGET.with_changes(max_new_tokens=3000)
    assert body("claude-sonnet-4-5", params=limited)["max_tokens"] == 3000


def test_output_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    params = SamplingParams(json_mode=True, reasoning_effort="low")
    assert body("gpt-4.1", params=params, output_schema=schema)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }
    written = body("claude-opus-5-5", params=params, output_schema=schema)
    assert written["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": schema}}


@pytest.mark.parametrize(
    ("choice", "openai", "anthropic"),
    [
        ("auto", "auto", {"type": "auto"}),
        ("none", "none", {"type": "none"}),
        ("required", "required", {"type": "any"}),
        ("f", {"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
    ],
)
def test_tools(choice: str, openai: Any, anthropic: Any) -> None:
    tool = Tool(name="f", description="Does.", parameters={"a": {"type": "string"}}, strict=True)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    written = body("gpt-4.1", tools=[tool], tool_choice=choice)
    function = {"name": "f", "description": "Does.", "parameters": schema, "strict": True}
    assert written["tools"] == [{"type": "function", "function": function}]
    assert written["tool_choice"] == openai
    written = body("claude-sonnet-4-5", tools=[tool], tool_choice=choice)
    assert written["tools"] == [{"name": "f", "description": "Does.", "input_schema": schema, "strict": True}]
    assert written["tool_choice"] == anthropic
    for name in ("gpt-4.1", "claude-sonnet-4-5"):
        assert "tool_choice" not in body(name, tool_choice=choice)


# Conversations in Anthropic's form


def test_system_text_stands_apart_in_order() -> None:
    conversation = Conversation.system("One").user("Hi").system("Two").ai("Yo").user("Bye")
    written = body("claude-sonnet-4-5", conversation)
    assert [block["text"] for block in written["system"]] == ["One", "Two"]
    assert [message["content"] for message in written["messages"]] == ["Hi", "Yo", "Bye"]
    assert body("claude-sonnet-4-5", Conversation.system("One").user("Hi"))["system"] == "One"


def test_results_and_the_words_after_them_share_a_message() -> None:
    conversation = Conversation(
        [
            Message.user("Go"),
            Message("assistant", (ToolCall("a", "f"), ToolCall("b", "f"))),
            Message("user", (Text("Then"),)),
            Message("tool", (ToolResult("a", "1"),)),
            Message("tool", (ToolResult("b", "2"),)),
        ]
    )
    _, _, last = body("claude-sonnet-4-5", conversation)["messages"]
    assert [block["type"] for block in last["content"]] == ["tool_result", "tool_result", "text"]


def test_what_anthropic_refuses_or_cannot_know_is_left_out() -> None:
    conversation = Conversation(
        [
            Message.user("Go"),
            Message("assistant", (Thinking("unsigned"), Text(" "), ProviderBlock("gemini", {"type": "x"}))),
            Message("user", (Text(""), Text("on"))),
        ]
    )
    assert body("claude-sonnet-4-5", conversation)["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Go"}, {"type": "text", "text": "on"}]}
    ]


# Marks


def test_breakpoints_land_on_tool_system_and_result() -> None:
    conversation = Conversation.system("S").user("Go").ai("x").with_tool_result("a", "1")
    breakpoints = [Breakpoint("tools", 0), Breakpoint("messages", 0, 0, "1h"), Breakpoint("messages", 3)]
    written = body("claude-sonnet-4-5", conversation, tools=[Tool(name="f")], breakpoints=breakpoints)
    assert written["tools"][0]["cache_control"] == EPHEMERAL
    assert written["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert written["messages"][2]["content"][0]["cache_control"] == EPHEMERAL


@pytest.mark.parametrize("name", ["claude-sonnet-4-5", "openrouter/anthropic/claude-sonnet-4.5"])
def test_a_breakpoint_on_what_is_not_sent_moves_back(name: str) -> None:
    conversation = Conversation([Message.system("S"), Message("user", (Text(""),)), Message.user("Go")])
    written = body(name, conversation, breakpoints=[Breakpoint("messages", 1)])
    block = {"type": "text", "text": "S", "cache_control": EPHEMERAL}
    assert (written["system"] if "system" in written else written["messages"][0]["content"]) == [block]


def test_a_breakpoint_on_thinking_moves_back_and_the_longer_life_wins() -> None:
    turn = Message("assistant", (Text("a"), Thinking("b", signature="s")))
    conversation = Conversation([Message.user("Go"), turn])
    breakpoints = [Breakpoint("messages", 1, 0, "1h"), Breakpoint("messages", 1, 1)]
    written = body("claude-sonnet-4-5", conversation, breakpoints=breakpoints)["messages"][1]["content"]
    assert [block.get("cache_control") for block in written] == [{"type": "ephemeral", "ttl": "1h"}, None]


def test_a_breakpoint_with_nothing_before_it_vanishes() -> None:
    conversation = Conversation([Message("user", (Text(" "), Text("Go")))])
    assert body("claude-sonnet-4-5", conversation, breakpoints=[Breakpoint("messages", 0, 0)])["messages"] == [
        {"role": "user", "content": "Go"}
    ]


def test_openrouter_has_breakpoints_on_the_text_before_an_image_and_on_the_tool() -> None:
    conversation = Conversation([Message("user", (Text("See"), Image(url="https://example.com/a.png")))])
    breakpoints = [Breakpoint("tools", 0), Breakpoint("messages", 0, 1)]
    written = body(
        "openrouter/anthropic/claude-sonnet-4.5", conversation, tools=[Tool(name="f")], breakpoints=breakpoints
    )
    assert written["tools"][0]["cache_control"] == EPHEMERAL
    assert [part.get("cache_control") for part in written["messages"][0]["content"]] == [EPHEMERAL, None]


def test_breakpoints_are_ignored_where_they_mean_nothing() -> None:
    breakpoints = [Breakpoint("messages", 0, 0)]
    assert body("gpt-4.1", breakpoints=breakpoints, automatic_cache=True) == body("gpt-4.1")
    assert not resolve("gpt-4.1", environ={}).caching.takes_breakpoints
    assert resolve("claude-sonnet-4-5", environ={}).caching.takes_breakpoints


def test_automatic_caching_is_asked_for_at_the_top() -> None:
    assert body("claude-sonnet-4-5", automatic_cache=True)["cache_control"] == EPHEMERAL


# Refusals


LOCAL_FILE = File(url="https://example.com/a.pdf")
TIFF = Image(data=b"II*\x00", media_type="image/tiff")
ZIP = File(data=b"PK\x03\x04\xff", media_type="application/zip")
FIVE = Conversation([Message("user", tuple(Text(str(i)) for i in range(5)))])


@pytest.mark.parametrize(
    ("name", "conversation", "fields", "words"),
    [
        ("gpt-4.1", Conversation.user("x", file=LOCAL_FILE), {}, "Download it"),
        (
            "gpt-4.1",
            Conversation([Message("assistant", (TIFF,))]),
            {},
            "messages\\[0\\], of role assistant, holds Image.*only in user or tool",
        ),
        ("gpt-4.1", Conversation([Message("assistant", (Thinking("x"),))]), {}, "Nothing is left"),
        ("gpt-4.1", Conversation.user("\ud83d"), {}, "lone surrogate"),
        ("gpt-4.1", HI, {"extra_body": {"x": object()}}, "extra_body"),
        ("claude-sonnet-4-5", Conversation.user("x", image=TIFF), {}, "Convert the image"),
        ("claude-sonnet-4-5", Conversation.user("x", file=ZIP), {}, "PDF and UTF-8 text"),
        (
            "claude-sonnet-4-5",
            Conversation([Message("user", (ToolCall("a", "f"),))]),
            {},
            "role user, holds ToolCall.*only in assistant",
        ),
        ("claude-sonnet-4-5", Conversation([Message("system", (TIFF,))]), {}, "role system, holds Image"),
        ("claude-sonnet-4-5", Conversation.system("Only rules"), {}, "no user message"),
        ("claude-sonnet-4-5", HI, {"breakpoints": [Breakpoint("messages", 0, 0, "2h")]}, "'2h'"),
        ("claude-sonnet-4-5", FIVE, {"breakpoints": [Breakpoint("messages", 0, i) for i in range(5)]}, "at most 4"),
        (
            "claude-sonnet-4-5",
            FIVE,
            {"breakpoints": [Breakpoint("messages", 0, i) for i in range(4)], "automatic_cache": True},
            "at most 4",
        ),
    ],
)
def test_refusals(name: str, conversation: Conversation, fields: dict, words: str) -> None:
    with pytest.raises(LMDelugeError, match=words) as caught:
        sent(name, conversation, **fields)
    assert isinstance(caught.value, (PromptError, ConfigError))
