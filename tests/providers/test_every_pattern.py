"""Every pattern on every service that takes prompt caching, planned as in a run, judged by types and by rules.

The types are those of the services' own SDKs. The rules are what their guides say and no type can: how many breakpoints
there are, in which order their lifetimes come, what they stand on, and what a request without an answer may not ask
for.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_deluge.config import SamplingParams
from lm_deluge.models import SERVICES, Caching, Model, resolve
from lm_deluge.prompt import Conversation, Image, Message, ProviderBlock, Text
from lm_deluge.prompt_cache import PATTERNS, Pattern, Planner, PromptCache
from lm_deluge.prompt_cache.options import Ttl
from lm_deluge.providers import build, wire_format
from lm_deluge.request import Request

from . import strategies as some
from .openapi_judge import judge_by_document
from .strict_types import (
    anthropic_body,
    mistral_body,
    openai_body,
    openrouter_body,
    openrouter_messages_body,
)

MODELS = {
    service: [resolve(name, environ={}) for name in names]
    for service, names in {
        "anthropic": (
            "claude-3-5-haiku",
            "claude-sonnet-4-5",
            "claude-opus-4-8",
            "claude-sonnet-5-5",
            "claude-opus-5-5",
        ),
        "openai": ("gpt-4.1", "o3", "gpt-5.5", "gpt-5.6-sol", "gpt-6.1-sol"),
        "openrouter": ("openrouter/anthropic/claude-sonnet-4.5", "openrouter/openai/gpt-6.1-sol"),
        "mistral": ("mistral/mistral-large-latest",),
        "xai": ("xai/grok-4",),
    }.items()
}
FILES = {
    "anthropic": some.loaded_files | some.file_urls,
    "openai-chat": some.loaded_files,
    "mistral": st.nothing(),  # it takes documents by address, and files that were uploaded to it
}
TTLS: tuple[Ttl | None, ...] = (None, *get_args(Ttl))
SECONDS = {None: 300, "5m": 300, "1h": 3_600}

every_pattern = pytest.mark.parametrize("pattern", PATTERNS)
quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

Body = dict[str, Any]


def test_no_service_is_forgotten() -> None:
    assert MODELS.keys() == {name for name, service in SERVICES.items() if service.caching != Caching()}


@st.composite
def planned(draw: st.DrawFn, service: str, pattern: Pattern) -> tuple[Request, bool]:
    """A request as the engine puts it together from the plan, and whether its answer streams."""
    model = draw(st.sampled_from(MODELS[service]))
    conversation = draw(prompts(model, pattern))
    tools = draw(some.tools)
    cache = PromptCache(pattern=pattern, ttl=draw(st.sampled_from(TTLS)))
    planner = Planner(cache, model, tools)
    planner.learn(neighbors(conversation, draw(st.integers(0, len(conversation.messages)))))
    plan = msgspec.structs.asdict(planner.plan(conversation).with_shard(draw(st.integers(0, 2))))
    del plan["prefixes"]
    request = Request(
        conversation=conversation,
        model=model,
        params=draw(some.params),
        tools=tools,
        tool_choice=draw(some.tool_choices),
        output_schema=draw(some.schemas),
        **plan,
    )
    if draw(st.booleans()) and wire_format(request.model).can_prefill(request):
        return msgspec.structs.replace(request, prefill=True), False
    return request, draw(st.booleans())


@st.composite
def prompts(draw: st.DrawFn, model: Model, pattern: Pattern) -> Conversation:
    wire = model.service.wire
    field = model.caching.breakpoint_field or "cache_control"
    found = draw(some.conversations_with_breakpoints(wire, field, FILES.get(model.service.name, FILES[wire])))
    if pattern != "shared_prefix" and draw(st.booleans()):
        return found
    # Enough to be worth a breakpoint, and a turn that is longer than any look-back.
    turn = [Message.user("First"), Message("assistant", [Text(f"{n}.") for n in range(25)])]
    return Conversation([Message.system("Long ago. " * 2_500), *turn, Message.user("Second"), *found.messages])


def neighbors(conversation: Conversation, shared: int) -> list[Conversation]:
    """Prompts of one batch that have the first messages in common."""
    first = conversation.messages[:shared]
    return [conversation, Conversation([*first, Message.user("Else")]), Conversation([*first, Message.user("Other")])]


def body_of(request: Request, *, stream: bool) -> Body:
    body: Body = json.loads(build(request, credential="key", stream=stream).body)
    return body


def as_blocks(content: str | list[Body]) -> list[Body]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def blocks_of(body: Body) -> Iterator[Body]:
    """The blocks that may carry a breakpoint, in the order in which the provider reads them."""
    yield from body.get("tools", ())
    yield from as_blocks(body.get("system", []))
    for message in body["messages"]:
        yield from as_blocks(message.get("content", []))


def without_breakpoints(value: Any) -> Any:
    """The same with every content an array, and nothing that speaks of caching."""
    if isinstance(value, list):
        return [without_breakpoints(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {
        name: without_breakpoints(item)
        for name, item in value.items()
        if name != "cache_control" and not name.startswith("prompt_cache_")
    }
    for name in ("content", "system"):
        if isinstance(plain.get(name), str):
            plain[name] = as_blocks(plain[name])
    return plain


def check_only_breakpoints_differ(request: Request, body: Body, *, stream: bool) -> None:
    uncached = msgspec.structs.replace(
        request, breakpoints=(), automatic_cache=False, cache_ttl=None, prompt_cache_key=None
    )
    assert without_breakpoints(body) == without_breakpoints(body_of(uncached, stream=stream))


def check_breakpoints_of_the_user(request: Request, body: Body, field: str) -> int:
    """They are all there, as they were set: so many."""
    theirs = [
        part.block
        for message in request.conversation.messages
        for part in message.parts
        if isinstance(part, ProviderBlock) and part.wire == request.model.service.wire and field in part.block
    ]
    carriers = [block for block in blocks_of(body) if field in block]
    assert all(block in carriers for block in theirs)
    return len(theirs)


def is_blank(block: Body) -> bool:
    return block.get("type") == "text" and not block["text"].strip()


# Anthropic


@every_pattern
@quick
@given(data=st.data())
def test_anthropic(pattern: Pattern, data: st.DataObject) -> None:
    request, stream = data.draw(planned("anthropic", pattern))
    body = body_of(request, stream=stream)
    openrouter_messages_body().validate_json(json.dumps(body), strict=True)
    check_only_breakpoints_differ(request, body, stream=stream)
    check_breakpoints_of_the_user(request, body, "cache_control")
    check_anthropic_rules(body)
    for parameter in ("temperature", "top_p"):  # gone from the newest version of the API, which the SDK's types follow
        body.pop(parameter, None)
    judge(anthropic_body, body)


def check_anthropic_rules(body: Body) -> None:
    """Prompt caching guide."""
    blocks = list(blocks_of(body))
    carriers = [block for block in blocks if "cache_control" in block]
    automatic = body.get("cache_control")
    assert len(carriers) + (automatic is not None) <= 4
    assert not any(is_blank(block) or "thinking" in block.get("type", "") for block in carriers)
    lifetimes = [SECONDS[block["cache_control"].get("ttl")] for block in carriers]
    if automatic is not None:  # it goes on the last block that takes one, and agrees with a breakpoint that is there
        last = next(block for block in reversed(blocks) if "thinking" not in block.get("type", ""))
        lifetimes.append(SECONDS[automatic.get("ttl")])
        assert "cache_control" not in last or lifetimes[-2] == lifetimes[-1]
    assert lifetimes == sorted(lifetimes, reverse=True)
    if body["max_tokens"] == 0:
        assert not body.get("stream", False)
        assert body.get("thinking", {}).get("type") != "enabled"
        assert "format" not in body.get("output_config", {})
        assert body.get("tool_choice", {"type": "auto"})["type"] in ("auto", "none")


def prompt_with_breakpoints(lifetimes: list[str], *, end: bool) -> Conversation:
    found = {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "Here"}]}
    breakpoints = [{**found, "cache_control": {"type": "ephemeral", "ttl": ttl}} for ttl in lifetimes]
    parts = [ProviderBlock("anthropic", block) for block in breakpoints]
    return Conversation([Message("user", [Text("So?"), *parts] if end else [*parts, Text("So?")])])


@pytest.mark.parametrize(
    ("ttl", "lifetimes", "end"),
    [
        ("5m", ["5m"] * 4, False),  # one too many
        ("1h", ["5m"], False),  # outlives the breakpoint before it
        ("5m", ["1h"], True),  # disagrees with the one on the same block
    ],
)
def test_automatic_beside_breakpoints_of_the_user(ttl: Ttl, lifetimes: list[str], end: bool) -> None:
    conversation = prompt_with_breakpoints(lifetimes, end=end)
    plan = Planner(PromptCache(pattern="automatic", ttl=ttl), MODELS["anthropic"][1]).plan(conversation)
    fields = {name: value for name, value in msgspec.structs.asdict(plan).items() if name != "prefixes"}
    request = Request(conversation=conversation, model=MODELS["anthropic"][1], **fields)
    check_anthropic_rules(body_of(request, stream=False))


# Chat Completions


@every_pattern
@quick
@given(data=st.data())
def test_openai(pattern: Pattern, data: st.DataObject) -> None:
    request, stream = data.draw(planned("openai", pattern))
    body = body_of(request, stream=stream)
    check_only_breakpoints_differ(request, body, stream=stream)
    field = "prompt_cache_breakpoint"
    if request.model.caching.breakpoint_field == field:
        theirs = check_breakpoints_of_the_user(request, body, field)
        check_openai_rules(body, theirs, pattern)
        assert "prompt_cache_key" not in body
        judge(openai_body, body)
    else:
        assert ("prompt_cache_key" in body) == (request.prompt_cache_key is not None)
        assert "prompt_cache_options" not in body
        body = without_field(body, "cache_control")  # what the user wrote, for other models
        judge(openai_body, body)
    judge_by_document(body)
    # OpenRouter's document takes breakpoints on text alone, and a lifetime of the whole beside "explicit" alone.
    for block in blocks_of(body):
        if block["type"] != "text":
            block.pop(field, None)
    if body.get("prompt_cache_options", {}).keys() == {"ttl"}:
        del body["prompt_cache_options"]
    judge(openrouter_body, body)


def check_openai_rules(body: Body, theirs: int, pattern: Pattern) -> None:
    """Prompt caching guide, GPT-5.6 and later. Marks beyond the fourth are dropped there, not refused."""
    carriers = [block for block in blocks_of(body) if "prompt_cache_breakpoint" in block]
    options = body.get("prompt_cache_options", {})
    explicit = options.get("mode") == "explicit"
    # Without a breakpoint it turns all caching off, which is right only for prompts that share nothing.
    assert carriers or not explicit or pattern == "shared_prefix"
    assert len(carriers) - theirs + (not explicit) <= 4  # the end of the prompt is one of the four
    assert {block["type"] for block in carriers} <= {"text", "image_url", "file"}
    assert not any(block.get("text") == "" for block in carriers)
    ours = [block["prompt_cache_breakpoint"].get("ttl") for block in carriers]
    assert {*ours, options.get("ttl")} <= {None, "30m"}  # Chat Completions refuses 12h


@every_pattern
@quick
@given(data=st.data())
def test_openrouter(pattern: Pattern, data: st.DataObject) -> None:
    request, stream = data.draw(planned("openrouter", pattern))
    body = body_of(request, stream=stream)
    judge(openrouter_body, body)
    judge(openai_body, without_field(body, "cache_control"))
    judge_by_document(without_field(body, "cache_control"))
    check_only_breakpoints_differ(request, body, stream=stream)
    check_breakpoints_of_the_user(request, body, "cache_control")
    carriers = [block for block in blocks_of(body) if "cache_control" in block]
    assert len(carriers) <= 4
    assert {block["type"] for block in carriers} <= {"text", "function"}
    assert not any(block.get("text") == "" for block in carriers)
    check_longest_first(body)


def check_longest_first(body: Body) -> None:
    lifetimes = [SECONDS[block["cache_control"].get("ttl")] for block in blocks_of(body) if "cache_control" in block]
    assert lifetimes == sorted(lifetimes, reverse=True)


def test_a_breakpoint_that_moves_stays_behind_those_of_the_user() -> None:
    theirs = {"type": "text", "text": "Here", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    image = Image(url="https://example.com/a.png")
    conversation = Conversation([Message("user", [Text("So?"), ProviderBlock("openai-chat", theirs), image])])
    model = MODELS["openrouter"][0]
    breakpoints = Planner(PromptCache(pattern="last_user_message"), model).plan(conversation).breakpoints
    check_longest_first(body_of(Request(conversation=conversation, model=model, breakpoints=breakpoints), stream=False))


@every_pattern
@quick
@given(data=st.data())
def test_mistral(pattern: Pattern, data: st.DataObject) -> None:
    request, stream = data.draw(planned("mistral", pattern))
    body = without_field(body_of(request, stream=stream), "cache_control")
    assert body.get("prompt_cache_key") == request.prompt_cache_key
    check_only_breakpoints_differ(request, body, stream=stream)
    judge(mistral_body, body)


@pytest.mark.parametrize(("params", "stream"), [(SamplingParams(seed=1), False), (SamplingParams(), True)])
def test_mistral_by_its_own_names(params: SamplingParams, stream: bool) -> None:
    request = Request(conversation=Conversation.user("Hi"), model=MODELS["mistral"][0], params=params)
    judge(mistral_body, body_of(request, stream=stream))


@every_pattern
@quick
@given(data=st.data())
def test_xai(pattern: Pattern, data: st.DataObject) -> None:
    request, stream = data.draw(planned("xai", pattern))
    sent = build(request, credential="key", stream=stream)
    assert sent.headers.get("x-grok-conv-id") == request.prompt_cache_key
    body = without_field(json.loads(sent.body), "cache_control")
    assert not any(name.startswith("prompt_cache") for name in body)
    judge(openai_body, body)
    judge_by_document(body)
    check_only_breakpoints_differ(request, body, stream=stream)


def judge(types: Callable[[], Any], body: Body) -> None:
    types().validate_json(json.dumps(body), strict=True)


def without_field(value: Any, field: str) -> Any:
    if isinstance(value, list):
        return [without_field(item, field) for item in value]
    if isinstance(value, dict):
        return {name: without_field(item, field) for name, item in value.items() if name != field}
    return value
