"""At which tier an answer is charged, and why a prompt was not read from the provider's cache."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_deluge.config import SamplingParams
from lm_deluge.models import resolve
from lm_deluge.prompt import Conversation
from lm_deluge.providers import Reply, StreamReader, build, parse
from lm_deluge.request import Breakpoint, Parameters, Request
from lm_deluge.tool import Tool
from lm_deluge.wire import HttpResponse

from .strict_types import anthropic_body
from .test_streams import anthropic_events, openai_events

CLAUDE, GPT = resolve("claude-opus-5-5", environ={}), resolve("gpt-5.4", environ={})

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-5",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 8, "output_tokens": 5},
}
COMPLETION = {
    "id": "chatcmpl-1",
    "model": "gpt-5.4",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13},
}


def both_ways(model, answer: dict[str, Any], events) -> Reply:
    """The reply to an answer that comes at once, which has to be the one to the same answer in pieces."""
    at_once = parse(model, HttpResponse(status=200, headers={}, body=json.dumps(answer).encode()), now=0.0)
    reader = StreamReader(model)
    for event in events(answer):
        reader.feed(b"event: x\ndata: " + json.dumps(event).encode() + b"\n\n")
    assert reader.result() == at_once
    rebuilt = parse(model, HttpResponse(status=200, headers={}, body=reader.body()), now=0.0)
    assert rebuilt == at_once
    assert isinstance(at_once, Reply), at_once
    return at_once


def said_by_claude(diagnostics: Any = None, **usage: Any) -> Reply:
    answer = {**MESSAGE, "usage": {**MESSAGE["usage"], **usage}, "diagnostics": diagnostics}
    return both_ways(CLAUDE, answer, anthropic_events)


def said_by_gpt(**fields: Any) -> Reply:
    return both_ways(GPT, {**COMPLETION, **fields}, openai_events)


# Tiers


@pytest.mark.parametrize(
    ("usage", "tier"),
    [
        ({}, None),
        ({"service_tier": None, "speed": None, "inference_geo": None}, None),
        ({"service_tier": "standard", "speed": "standard", "inference_geo": "global"}, None),
        ({"service_tier": "standard", "inference_geo": "not_available"}, None),
        ({"service_tier": "batch"}, "batch"),
        ({"service_tier": "priority", "speed": "standard"}, "priority"),
        ({"service_tier": "standard", "speed": "fast", "inference_geo": "global"}, "fast"),
        ({"service_tier": "standard", "inference_geo": "us"}, "us"),
        ({"service_tier": "batch", "inference_geo": "us"}, "batch+us"),
    ],
)
def test_the_tier_of_a_message(usage: dict[str, Any], tier: str | None) -> None:
    assert said_by_claude(**usage).service_tier == tier


@pytest.mark.parametrize(
    ("fields", "tier"),
    [
        ({}, None),
        ({"service_tier": None}, None),
        ({"service_tier": "default"}, None),
        ({"service_tier": "auto"}, None),
        ({"service_tier": "on_demand"}, None),
        ({"service_tier": "flex"}, "flex"),
        ({"service_tier": "priority"}, "priority"),
        ({"service_tier": "scale"}, "scale"),
    ],
)
def test_the_tier_of_a_completion(fields: dict[str, Any], tier: str | None) -> None:
    assert said_by_gpt(**fields).service_tier == tier


def test_of_a_stream_the_last_word_counts() -> None:
    reader = StreamReader(GPT)
    first, *rest = openai_events({**COMPLETION, "service_tier": "flex"})
    for event in ({**first, "service_tier": "auto"}, *rest):
        reader.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    reply = reader.result()
    assert isinstance(reply, Reply)
    assert reply.service_tier == "flex"


# Diagnostics in answers


@pytest.mark.parametrize(
    ("diagnostics", "reason"),
    [
        (None, None),
        ({"cache_miss_reason": None}, None),
        ({"cache_miss_reason": {"type": "tools_changed", "cache_missed_input_tokens": 2_048}}, "tools_changed"),
        ({"cache_miss_reason": {"type": "previous_message_not_found"}}, "previous_message_not_found"),
        ({"cache_miss_reason": {"type": "a_reason_of_tomorrow", "more": [1]}}, "a_reason_of_tomorrow"),
        ({"cache_miss_reason": {"type": ""}}, None),
    ],
)
def test_the_reason_of_a_miss(diagnostics: Any, reason: str | None) -> None:
    assert said_by_claude(diagnostics).cache_miss_reason == reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
maybe = json_values | st.builds(lambda reason: {"cache_miss_reason": reason}, json_values)


@given(diagnostics=maybe, tier=json_values, speed=json_values, place=json_values)
def test_strange_fields_cost_no_answer(diagnostics: Any, tier: Any, speed: Any, place: Any) -> None:
    usage = {**MESSAGE["usage"], "service_tier": tier, "speed": speed, "inference_geo": place}
    message = {**MESSAGE, "usage": usage, "diagnostics": diagnostics}
    for model, answer in ((CLAUDE, message), (GPT, {**COMPLETION, "service_tier": tier})):
        reply = parse(model, HttpResponse(status=200, headers={}, body=json.dumps(answer).encode()), now=0.0)
        assert isinstance(reply, Reply)
        assert reply.content.completion == "Hello"
        assert reply.service_tier is None or isinstance(reply.service_tier, str)
        assert reply.cache_miss_reason is None or isinstance(reply.cache_miss_reason, str)


# Diagnostics in requests

PROMPT = Conversation.system("S").user("One").ai("1").user("Two")


def body_of(name: str, *, stream: bool = False, **fields: Any) -> dict[str, Any]:
    request = Request(conversation=PROMPT, model=resolve(name, environ={}), **fields)
    built = build(request, credential="key", stream=stream)
    assert "anthropic-beta" not in built.headers
    return json.loads(built.body)


@pytest.mark.parametrize(
    ("previous", "sent"),
    [
        (None, None),
        ("msg_013Zva2CMHLNnXjNJJKqJ2EF", "msg_013Zva2CMHLNnXjNJJKqJ2EF"),
        ("chatcmpl-1", None),  # the API answers such ids with an error
        ("gen-1", None),
        ("", None),
    ],
)
def test_a_diagnosis_is_asked_for(previous: str | None, sent: str | None) -> None:
    body = body_of("claude-opus-5-5", diagnose=True, previous_response_id=previous)
    assert body["diagnostics"] == {"previous_message_id": sent}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prefill": True},
        {"automatic_cache": True},
        {"stream": True},
        {"breakpoints": [Breakpoint("messages", 0, ttl="1h")], "tools": (Tool(name="f"),), "tool_choice": "f"},
        {"params": SamplingParams(reasoning_effort="high"), "output_schema": {"type": "object"}},
    ],
    ids=lambda fields: "+".join(fields) or "plain",
)
def test_a_diagnosis_changes_nothing_else(fields: dict[str, Any]) -> None:
    body = body_of("claude-opus-5-5", diagnose=True, previous_response_id="msg_1", **fields)
    plain = body_of("claude-opus-5-5", **fields)
    if not fields.get("stream"):
        anthropic_body().validate_json(json.dumps(body), strict=True)
    assert body.pop("diagnostics") == {"previous_message_id": "msg_1"}
    assert list(body.items()) == list(plain.items())


def test_none_is_asked_for_unless_told() -> None:
    assert "diagnostics" not in body_of("claude-opus-5-5", previous_response_id="msg_1")


@pytest.mark.parametrize(
    "name",
    ["gpt-5.4", "gpt-6.1-sol", "openrouter/anthropic/claude-opus-5.5", "mistral/mistral-large-4", "xai/grok-4.3"],
)
def test_other_services_are_not_asked(name: str) -> None:
    assert resolve(name, environ={}).caching.diagnostics is False
    assert body_of(name, diagnose=True, previous_response_id="msg_1") == body_of(name)


def test_claude_behind_an_address_is_asked_too() -> None:
    model = resolve("claude-opus-5-5", base_url="http://localhost:8000", environ={})
    request = Request(conversation=PROMPT, model=model, diagnose=True)
    assert json.loads(build(request, credential=None).body)["diagnostics"] == {"previous_message_id": None}


def test_what_the_user_adds_wins() -> None:
    own = {"diagnostics": {"previous_message_id": "msg_own"}}
    body = body_of("claude-opus-5-5", diagnose=True, previous_response_id="msg_1", extra_body=own)
    assert body["diagnostics"] == own["diagnostics"]


def test_no_key_knows_of_a_diagnosis() -> None:
    assert {"diagnose", "previous_response_id"}.isdisjoint(Parameters.__struct_fields__)
    # As keys of scope="request" held it before requests could be diagnosed.
    parameters = Parameters.of(CLAUDE, SamplingParams(temperature=0.5), tools=[Tool(name="f")])
    assert parameters.digest.hex() == "852715b7c3ebf515a2ad921c9e199ba76842e1cf40771bcac6b7c7a0d1c50039"
