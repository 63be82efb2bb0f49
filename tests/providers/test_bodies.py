"""Random requests: every body is one that the official SDK's types allow, and says what the prompt says."""

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_deluge.models import resolve
from lm_deluge.prompt import Conversation, File, Text, ToolResult
from lm_deluge.prompt_cache import PATTERNS, Planner, PromptCache
from lm_deluge.prompt_cache.patterns import ROWS
from lm_deluge.providers import build
from lm_deluge.request import Breakpoint, Request

from . import strategies as some
from .openapi_judge import judge_by_document
from .strict_types import anthropic_body, openai_body

CLAUDES = [
    resolve(name, environ={})
    for name in ("claude-3-5-haiku", "claude-sonnet-4-5", "claude-opus-4-8", "claude-sonnet-5-5", "claude-opus-5-5")
]
GPTS = [
    resolve(name, environ={})
    for name in ("gpt-4.1", "o3", "gpt-5.2", "gpt-5.6-sol", "gpt-6.1-sol", "xai/grok-4", "groq/llama")
]
ROUTED = resolve("openrouter/anthropic/claude-sonnet-4.5", environ={})

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def requests(draw, models, files) -> Request:
    conversation = draw(some.conversations(files))
    tools = draw(some.tools)
    model = draw(st.sampled_from(models))
    caching = {}
    if pattern := draw(st.sampled_from([None, *PATTERNS])):
        ttl = draw(st.sampled_from([None, "5m", "30m", "1h", "12h"]))
        planner = Planner(PromptCache(pattern=pattern, ttl=ttl), model, tools)
        planner.learn([conversation] * draw(st.integers(0, 2)))
        planned = msgspec.structs.asdict(planner.plan(conversation).with_shard(draw(st.integers(0, 2))))
        caching = {name: value for name, value in planned.items() if name != "prefixes"}
        if draw(st.booleans()):  # breakpoints of any place are carried as well as planned ones
            caching["breakpoints"] = draw(some_breakpoints(conversation, tools))
    return Request(
        conversation=conversation,
        model=model,
        params=draw(some.params),
        tools=tools,
        tool_choice=draw(some.tool_choices),
        output_schema=draw(some.schemas),
        **caching,
    )


def some_breakpoints(conversation: Conversation, tools: list) -> st.SearchStrategy[list[Breakpoint]]:
    places = [Breakpoint("tools", index, ttl="1h") for index in range(len(tools))]
    places += [
        Breakpoint("messages", index, part)
        for index, message in enumerate(conversation.messages)
        for part in range(len(message.parts))
    ]
    return st.lists(st.sampled_from(places), max_size=3, unique=True)


def body_of(request: Request) -> dict[str, Any]:
    return json.loads(build(request, credential="key").body)


def as_blocks(content: str | list) -> list[dict]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def taken(value: Any, key: str) -> list[Any]:
    """Every value under ``key``, anywhere, removed from where it was."""
    found: list[Any] = []
    if isinstance(value, dict):
        if key in value:
            found.append(value.pop(key))
        for item in value.values():
            found += taken(item, key)
    elif isinstance(value, list):
        for item in value:
            found += taken(item, key)
    return found


def texts_of(conversation: Conversation, *roles: str) -> list[str]:
    return [
        part.text
        for message in conversation.messages
        if message.role in roles
        for part in message.parts
        if isinstance(part, Text) and part.text.strip()
    ]


@quick
@given(requests(CLAUDES, some.loaded_files | some.file_urls))
def test_anthropic_bodies(request: Request) -> None:
    body = body_of(request)
    for parameter in ("temperature", "top_p"):  # gone from the newest version of the API, which the SDK's types follow
        body.pop(parameter, None)
    anthropic_body().validate_json(json.dumps(body), strict=True)

    system = [block["text"] for block in as_blocks(body.get("system", []))]
    assert system == texts_of(request.conversation, "system")
    roles = [message["role"] for message in body["messages"]]
    assert all(one != two for one, two in itertools.pairwise(roles))
    turns = [as_blocks(message["content"]) for message in body["messages"]]
    said = [block["text"] for blocks in turns for block in blocks if block["type"] == "text"]
    assert sorted(said) == sorted(texts_of(request.conversation, "user", "tool", "assistant"))
    for blocks in turns:
        assert blocks
        is_result = [block["type"] == "tool_result" for block in blocks]
        assert is_result == sorted(is_result, reverse=True)
        assert all(block["text"].strip() for block in blocks if block["type"] == "text")

    allowed = {"text", "image", "document", "tool_use", "tool_result", None}
    assert all(block.get("type") in allowed for block in every_block_with_breakpoint(body))
    # Fewer than asked for where a breakpoint on blank text moved back to a block that has one.
    assert len(taken(body, "cache_control")) <= len(request.breakpoints) + request.automatic_cache <= 4


def every_block_with_breakpoint(body: dict[str, Any]) -> list[dict]:
    blocks = [*body.get("tools", ()), *as_blocks(body.get("system", []))]
    for message in body["messages"]:
        blocks += as_blocks(message["content"])
    return [block for block in blocks if "cache_control" in block]


@quick
@given(requests(GPTS, some.loaded_files))
def test_openai_bodies(request: Request) -> None:
    body = body_of(request)
    openai_body().validate_json(json.dumps(body), strict=True)
    judge_by_document(body)
    assert not taken(body, "cache_control")
    has_breakpoints = request.model.caching.takes_breakpoints
    assert "prompt_cache_key" not in body or not has_breakpoints
    assert all(not taken(tool, "prompt_cache_breakpoint") for tool in body.get("tools", ()))
    breakpoints = len(taken(body, "prompt_cache_breakpoint"))
    assert breakpoints <= (len(request.breakpoints) if has_breakpoints else 0)
    options = body.get("prompt_cache_options", {})
    tail = breakpoints == 0 if request.cache_tail is None else request.cache_tail
    assert (options.get("mode") == "explicit") == (has_breakpoints and not tail)

    said = [
        block["text"]
        for message in body["messages"]
        if message["role"] != "tool"
        for block in as_blocks(message.get("content", []))
        if block["type"] == "text" and block["text"].strip() and not block["text"].startswith("[image")
    ]
    assert sorted(said) == sorted(texts_of(request.conversation, "system", "user", "tool", "assistant"))
    results = [
        part.tool_call_id
        for message in request.conversation.messages
        for part in message.parts
        if isinstance(part, ToolResult)
    ]
    assert [message["tool_call_id"] for message in body["messages"] if message["role"] == "tool"] == results


@quick
@given(requests([ROUTED], some.loaded_files))
def test_openrouter_bodies(request: Request) -> None:
    body = body_of(request)
    carriers = [
        block
        for message in body["messages"]
        for block in as_blocks(message.get("content", []))
        if "cache_control" in block
    ]
    assert all(block["type"] == "text" and block["text"] for block in carriers)
    assert len(taken(body, "cache_control")) <= 4
    openai_body().validate_json(json.dumps(body), strict=True)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_has_places_in_a_long_agent_conversation(pattern: str) -> None:
    """The patterns on a prompt where each finds a place: so many breakpoints, and nothing else differs."""
    conversation = (
        Conversation.system("Rules.").user("One").ai("1").user("Two").ai("2").user("Three").with_tool_result("c", "r")
    )
    tools = [some.Tool(name="f"), some.Tool(name="g")]
    request = Request(conversation=conversation, model=CLAUDES[1], tools=tools)
    plain = body_of(request)
    cached = body_of(
        Request(
            conversation=conversation,
            model=CLAUDES[1],
            tools=tools,
            breakpoints=ROWS[pattern].places(conversation, tools),
            automatic_cache=pattern == "automatic",
        )
    )
    several = {"last_2_user_messages": 2, "last_3_user_messages": 3, "conversation": 3}
    assert len(taken(cached, "cache_control")) == several.get(pattern, 1)
    for body in (plain, cached):
        body["system"] = as_blocks(body.get("system", []))
        for message in body["messages"]:
            message["content"] = as_blocks(message["content"])
    assert cached == plain


@settings(deadline=None)
@given(data=st.binary().map(b"%PDF-".__add__), filename=st.none() | some.words)
def test_documents_arrive_whole(data: bytes, filename: str | None) -> None:
    import base64

    file = File(data=data, media_type="application/pdf", filename=filename)
    conversation = Conversation.user("Read", file=file)
    (document,) = [
        block
        for block in body_of(Request(conversation=conversation, model=CLAUDES[0]))["messages"][0]["content"]
        if block["type"] == "document"
    ]
    assert base64.b64decode(document["source"]["data"]) == data
    (part,) = [
        part
        for part in body_of(Request(conversation=conversation, model=GPTS[0]))["messages"][0]["content"]
        if part["type"] == "file"
    ]
    assert base64.b64decode(part["file"]["file_data"].partition(",")[2]) == data
