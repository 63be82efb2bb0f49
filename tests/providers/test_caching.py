"""What each provider is told about caching: golden rows of breakpoints, options and keys."""

import json
from typing import Any

import msgspec
import pytest

from lm_deluge.config import SamplingParams
from lm_deluge.errors import ConfigError
from lm_deluge.models import resolve
from lm_deluge.prompt import Conversation, File, Image, Message, Text, ToolCall, ToolResult
from lm_deluge.prompt_cache import Planner, PromptCache
from lm_deluge.providers import build, wire_format
from lm_deluge.request import Breakpoint, Request
from lm_deluge.tool import Tool

from .strict_types import anthropic_body, openai_body

PROMPT = Conversation.system("S").user("One").ai("1").user("Two")
TOOLS = (Tool(name="f"),)
CLAUDE, GPT = "claude-sonnet-4-5", "gpt-6.1-sol"


def sent(name: str, conversation: Conversation = PROMPT, **fields: Any):
    return build(Request(conversation=conversation, model=resolve(name, environ={}), **fields), credential="key")


def planned(name: str, pattern: str, conversation: Conversation = PROMPT, tools=(), **options: Any):
    planner = Planner(PromptCache(pattern=pattern, **options), resolve(name, environ={}), tools)
    fields = msgspec.structs.asdict(planner.plan(conversation))
    del fields["prefixes"]
    return sent(name, conversation, tools=tools, **fields)


def said(body: dict[str, Any]) -> dict[str, Any]:
    """What the body says about caching: the breakpoints by their text, and the fields at the top."""
    found: dict[str, Any] = {name: value for name, value in body.items() if "cache" in name}
    blocks = list(body.get("system", ())) if isinstance(body.get("system"), list) else []
    for message in body["messages"]:
        blocks += message["content"] if isinstance(message.get("content"), list) else []
    for block in blocks:
        for field in ("cache_control", "prompt_cache_breakpoint"):
            if field in block:
                found[block.get("text", block["type"])] = block[field]
    for tool in body.get("tools", ()):
        if "cache_control" in tool:
            found["tool"] = tool["cache_control"]
    return found


HERE, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
EXPLICIT, HALF_HOUR = {"mode": "explicit"}, {"mode": "explicit", "ttl": "30m"}

GOLDEN = [
    (CLAUDE, "system_and_tools", None, {"S": HERE}),
    (CLAUDE, "system_and_tools", "5m", {"S": {"type": "ephemeral", "ttl": "5m"}}),
    (CLAUDE, "system_and_tools", "30m", {"S": HOUR}),
    (CLAUDE, "system_and_tools", "12h", {"S": HOUR}),
    (CLAUDE, "tools_only", None, {"tool": HERE}),
    (CLAUDE, "conversation", "1h", {"S": HOUR, "One": HOUR, "Two": HOUR}),
    (CLAUDE, "automatic", None, {"cache_control": HERE}),
    (CLAUDE, "automatic", "1h", {"cache_control": HOUR}),
    ("openrouter/anthropic/claude-sonnet-4.5", "conversation", "1h", {"S": HOUR, "One": HOUR, "Two": HOUR}),
    ("openrouter/anthropic/claude-sonnet-4.5", "tools_only", None, {"tool": HERE}),
    ("openrouter/openai/gpt-6.1-sol", "system_and_tools", None, {"S": HERE}),
    # A tail that varies would be written each time, at a price, so the provider's own breakpoint is turned off.
    (GPT, "system_and_tools", None, {"S": EXPLICIT, "prompt_cache_options": EXPLICIT}),
    (GPT, "system_and_tools", "1h", {"S": HALF_HOUR, "prompt_cache_options": EXPLICIT}),
    # Turns of a conversation are read where messages end.
    (GPT, "conversation", None, {"S": EXPLICIT, "One": EXPLICIT, "Two": EXPLICIT}),
    (GPT, "last_user_message", "30m", {"Two": HALF_HOUR, "prompt_cache_options": {"ttl": "30m"}}),
    # No breakpoint can stand on a tool, and "explicit" without a breakpoint would turn all caching off.
    (GPT, "tools_only", None, {}),
    (GPT, "automatic", None, {}),
    (GPT, "automatic", "30m", {"prompt_cache_options": {"ttl": "30m"}}),
    ("groq/llama", "system_and_tools", "1h", {}),
]


@pytest.mark.parametrize(("name", "pattern", "ttl", "expected"), GOLDEN)
def test_the_table(name, pattern, ttl, expected):
    body = json.loads(planned(name, pattern, tools=TOOLS, ttl=ttl).body)
    assert said(body) == expected
    judge = anthropic_body() if name == CLAUDE else openai_body()
    if "openrouter" not in name:
        judge.validate_json(json.dumps(body), strict=True)


@pytest.mark.parametrize("name", ["gpt-4.1", "gpt-5.5", "mistral/mistral-large-latest"])
def test_a_key_in_the_body(name):
    one, two, other = (
        json.loads(planned(name, "system_and_tools", each).body)
        for each in (PROMPT, Conversation.system("S").user("x"), Conversation.system("T").user("x"))
    )
    assert one["prompt_cache_key"] == two["prompt_cache_key"] != other["prompt_cache_key"]
    assert said(one).keys() == {"prompt_cache_key"}
    openai_body().validate_json(json.dumps(one), strict=True)


def test_a_key_among_the_headers():
    request = planned("xai/grok-4", "system_and_tools")
    assert len(request.headers["x-grok-conv-id"]) == 26
    assert said(json.loads(request.body)) == {}
    own = sent("xai/grok-4", prompt_cache_key="ours", extra_headers={"X-Grok-Conv-Id": "theirs"})
    assert own.headers["x-grok-conv-id"] == "theirs"


def test_what_the_user_says_in_the_body_wins():
    body = json.loads(sent("gpt-4.1", prompt_cache_key="ours", extra_body={"prompt_cache_key": "theirs"}).body)
    assert body["prompt_cache_key"] == "theirs"


def test_breakpoints_of_openai_stand_on_every_part_that_takes_one():
    image = Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png")
    file = File(data=b"%PDF-", media_type="application/pdf")
    messages = [
        Message("user", (Text("a"), image)),
        Message("user", (Text("b"), file)),
        Message("assistant", (Text("c"), ToolCall("1", "f"))),
        Message("tool", (ToolResult("1", "r"),)),
    ]
    breakpoints = [Breakpoint("messages", index, index < 3) for index in range(4)]
    body = json.loads(sent(GPT, Conversation(messages), breakpoints=breakpoints).body)
    assert [[part.get("prompt_cache_breakpoint") for part in each["content"]] for each in body["messages"]] == [
        [None, EXPLICIT],
        [None, EXPLICIT],
        [EXPLICIT],  # on the text before the call, which takes none
        [EXPLICIT],
    ]
    openai_body().validate_json(json.dumps(body), strict=True)


def test_support():
    supported = {
        name: (model.caching.takes_breakpoints, model.caching.takes_instructions)
        for name in (CLAUDE, GPT, "gpt-4.1", "xai/grok-4", "groq/x")
        for model in [resolve(name, environ={})]
    }
    assert list(supported.values()) == [(True, True), (True, True), (False, True), (False, True), (False, False)]


# Prefill


def test_a_prefill_asks_for_no_answer_and_keeps_the_rest():
    fields = {"params": SamplingParams(max_new_tokens=5), "breakpoints": [Breakpoint("messages", 0)], "tools": TOOLS}
    body, prefill = (json.loads(sent(CLAUDE, prefill=each, **fields).body) for each in (False, True))
    assert (body.pop("max_tokens"), prefill.pop("max_tokens")) == (5, 0)
    assert body == prefill


@pytest.mark.parametrize(
    ("name", "fields", "possible"),
    [
        (CLAUDE, {}, True),
        (CLAUDE, {"tools": TOOLS, "tool_choice": "auto"}, True),
        (CLAUDE, {"tools": TOOLS, "tool_choice": "required"}, False),
        (CLAUDE, {"tools": TOOLS, "tool_choice": "f"}, False),
        (CLAUDE, {"output_schema": {"type": "object"}}, False),
        (CLAUDE, {"params": SamplingParams(thinking_budget=2_000)}, False),
        ("claude-opus-5-5", {"params": SamplingParams(reasoning_effort="low")}, True),
        (GPT, {}, False),
    ],
)
def test_where_a_prefill_is_possible(name, fields, possible):
    request = Request(conversation=PROMPT, model=resolve(name, environ={}), prefill=True, **fields)
    assert wire_format(request.model).can_prefill(request) == possible
    if possible:
        assert json.loads(build(request, credential=None).body)["max_tokens"] == 0
        with pytest.raises(ConfigError):
            build(request, credential=None, stream=True)
    else:
        with pytest.raises(ConfigError, match="without answering"):
            build(request, credential=None)
