"""From a pattern to the fields of a request, for each kind of provider."""

import json
import subprocess
import sys

import pytest

from lm_deluge.errors import ConfigError
from lm_deluge.models import resolve
from lm_deluge.prompt import Conversation, Image, Message, ProviderBlock, Text, ToolCall, ToolResult
from lm_deluge.prompt_cache import PATTERNS, CachePlan, Planner, PromptCache, cache_key
from lm_deluge.prompt_cache.layout import Reader
from lm_deluge.prompt_cache.patterns import ROWS
from lm_deluge.prompt_cache.prefix import prefixes
from lm_deluge.providers import build
from lm_deluge.request import Breakpoint, Request
from lm_deluge.tool import Tool

from .predictions import predict

CLAUDE = resolve("claude-sonnet-4-5", environ={})
GPT_6 = resolve("gpt-6.1-sol", environ={})
GPT_4 = resolve("gpt-4.1", environ={})
ROUTED = resolve("openrouter/anthropic/claude-sonnet-4.5", environ={})
MISTRAL = resolve("mistral/mistral-large-latest", environ={})
GROQ = resolve("groq/llama-3.3-70b", environ={})

SYSTEM = "abc " * 2_000
BASE = Conversation.system(SYSTEM)
PROMPT = BASE.user("One").ai("1").user("Two")
TOOLS = (Tool(name="f", description="Does."),)


def prefix(conversation, tools, breakpoints, *, model):
    """The longest of the prefixes that some breakpoints stand for."""
    found = prefixes(Reader(model, tools), conversation, breakpoints, model=model)
    return found[-1] if found else None


def planned(pattern: str, model=CLAUDE, conversation=PROMPT, tools=TOOLS, **options) -> CachePlan:
    return Planner(PromptCache(pattern=pattern, **options), model, tools).plan(conversation)


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        ("system_and_tools", [(0, 0)]),
        ("last_user_message", [(3, 0)]),
        ("last_2_user_messages", [(1, 0), (3, 0)]),
        ("conversation", [(0, 0), (1, 0), (3, 0)]),
        ("shared_prefix", []),
        ("automatic", []),
    ],
)
def test_breakpoints_and_lifetimes(pattern, places):
    plan = planned(pattern, ttl="1h")
    assert plan.breakpoints == tuple(Breakpoint("messages", *place, "1h") for place in places)
    assert plan.automatic_cache == (pattern == "automatic")
    assert plan.cache_ttl == "1h"
    assert len(plan.prefixes) == len(places)
    assert all(each.seconds == 3_600.0 for each in plan.prefixes)


def test_only_prompts_that_go_on_from_each_other_have_their_end_cached():
    grows = {pattern for pattern in PATTERNS if planned(pattern).cache_tail}
    assert set(PATTERNS) - grows == {"system_and_tools", "tools_only", "shared_prefix"}


def test_shared_prefixes_are_learned():
    planner = Planner(PromptCache(pattern="shared_prefix"), CLAUDE, TOOLS)
    prompts = [BASE.user(f"question {number}") for number in range(3)]
    planner.learn(prompts)
    assert {planner.plan(each).breakpoints for each in prompts} == {(Breakpoint("messages", 0),)}
    assert len({planner.plan(each).prefixes for each in prompts}) == 1


@pytest.mark.parametrize(
    ("model", "warm", "warms"),
    [
        (CLAUDE, True, True),
        (CLAUDE, False, False),
        (CLAUDE, "prefill", True),
        (GPT_6, True, True),
        (ROUTED, True, True),
        (GPT_4, True, True),
        (GPT_4, False, False),
        (GROQ, True, False),
    ],
)
def test_requests_wait_wherever_something_can_be_done_for_the_providers_cache(model, warm, warms):
    assert Planner(PromptCache(warm=warm), model).warms is warms


# Prefixes


def test_a_prefix_is_what_stands_before_the_breakpoint_and_nothing_else():
    def of(conversation, tools=TOOLS, model=CLAUDE):
        return planned("system_and_tools", model, conversation, tools).prefixes[-1]

    one = of(PROMPT)
    assert one == of(BASE.user("Something else"))
    assert one.tokens == pytest.approx(2_000, rel=0.02)
    assert one.is_cacheable
    others = [
        of(Conversation.system(SYSTEM + " ").user("One")),
        of(PROMPT, (Tool(name="f", description="Does not."),)),
        of(PROMPT, (*TOOLS, *TOOLS)),
        of(PROMPT, ()),
        of(PROMPT, model=resolve("claude-opus-5-5", environ={})),
        of(PROMPT, model=resolve("claude-sonnet-4-5", base_url="http://localhost:1", environ={})),
        Planner(PromptCache(), CLAUDE, TOOLS, scope=b"effort").plan(PROMPT).prefixes[-1],
    ]
    assert len({one.id, *(each.id for each in others)}) == 8


def test_the_order_of_a_schemas_properties_is_part_of_the_prefix():
    one, two = (
        Tool(name="f", parameters={"type": "object", "properties": {name: {"type": "string"} for name in names}})
        for names in ("ab", "ba")
    )
    assert planned("tools_only", tools=(one,)).prefixes != planned("tools_only", tools=(two,)).prefixes


def test_breakpoints_nest():
    plan = planned("conversation")
    again = planned("conversation", conversation=PROMPT.ai("2").user("Three"))
    assert [each.tokens for each in plan.prefixes] == sorted(each.tokens for each in plan.prefixes)
    assert again.prefixes[1].id == plan.prefixes[2].id, "this turn reads what the last one wrote"


def test_system_text_anywhere_belongs_to_the_prefix_where_it_is_read_first():
    later = Conversation([*PROMPT.messages, Message.system("More rules")])
    for model, are_same in [(CLAUDE, False), (GPT_6, True)]:
        one, other = (planned("last_user_message", model, each).prefixes[-1] for each in (PROMPT, later))
        assert (one.id == other.id) == are_same
        assert one.is_whole
        assert other.is_whole != are_same, "what comes later is no part of the prefix where it is read last"


def test_a_prefix_by_itself():
    breakpoints = (Breakpoint("messages", 0),)
    assert prefix(PROMPT, TOOLS, breakpoints, model=CLAUDE) == planned("system_and_tools").prefixes[0]
    assert prefix(PROMPT, TOOLS, (), model=CLAUDE) is None
    image = Conversation([Message("user", (Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png"),))])
    assert prefix(image, (), breakpoints, model=CLAUDE).tokens == pytest.approx(1_600, abs=10)


@pytest.mark.parametrize(("length", "cacheable"), [(700, False), (800, True), (2_000, True)])
def test_a_prefix_below_the_minimum_is_told_with_some_leeway(length, cacheable):
    assert (
        planned("system_and_tools", conversation=Conversation.system("abc " * length)).prefixes[0].is_cacheable
        == cacheable
    )


# Other providers


def test_no_breakpoint_on_a_tool_where_none_is_taken():
    assert planned("tools_only", GPT_6).prefixes == ()
    assert planned("tools_only", CLAUDE).prefixes != ()


def test_three_breakpoints_beside_the_one_that_the_provider_sets():
    many = [Text(str(number)) for number in range(30)]
    long = Conversation(
        [*BASE.user("One").messages, Message("assistant", many), *BASE.user("x").ai("y").user("z").messages[1:]]
    )
    assert len(planned("conversation", CLAUDE, long).breakpoints) == 4
    assert len(planned("conversation", GPT_6, long).breakpoints) == 3


@pytest.mark.parametrize(
    ("model", "has_key"), [(GPT_4, True), (MISTRAL, True), (GPT_6, False), (CLAUDE, False), (GROQ, False)]
)
def test_a_key_for_providers_that_route_by_it(model, has_key):
    plans = [planned("system_and_tools", model, BASE.user(text)) for text in ("a", "b")]
    assert (plans[0].prompt_cache_key is not None) == has_key
    assert plans[0].prompt_cache_key == plans[1].prompt_cache_key
    other = planned("system_and_tools", model, Conversation.system("Other").user("a"))
    assert not has_key or other.prompt_cache_key != plans[0].prompt_cache_key


def test_a_key_is_all_there_is_to_automatic_caching_where_keys_are_taken():
    assert planned("automatic", MISTRAL).prompt_cache_key == planned("system_and_tools", MISTRAL).prompt_cache_key
    assert planned("automatic", MISTRAL).breakpoints == ()
    assert planned("automatic", CLAUDE).prompt_cache_key is None


@pytest.mark.parametrize("name", ["anthropic/claude-sonnet-4.5", "google/gemini-2.5-flash", "qwen/qwen3-max"])
def test_where_the_provider_places_no_breakpoint_automatic_is_one_on_the_last_block(name):
    model = resolve(f"openrouter/{name}", environ={})
    plan = planned("automatic", model, ttl="1h")
    assert (plan.breakpoints, plan.automatic_cache) == ((Breakpoint("messages", 3, 0, "1h"),), False)
    assert plan.prefixes == planned("last_user_message", model, ttl="1h").prefixes
    fields = {"breakpoints": plan.breakpoints, "automatic_cache": plan.automatic_cache, "cache_ttl": plan.cache_ttl}
    body = json.loads(build(Request(conversation=PROMPT, model=model, **fields), credential=None).body)
    assert body["messages"][3]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert "cache_control" not in body
    assert planned("automatic", model, PROMPT.ai("So")).breakpoints == (Breakpoint("messages", 4, 0),)
    assert planned("automatic", model, Conversation([Message.user("")])).breakpoints == ()
    own = [ProviderBlock("openai-chat", {"type": "text", "text": f"{n}", "cache_control": {}}) for n in range(4)]
    assert planned("automatic", model, Conversation([Message("user", [*own, Text("x")])])).breakpoints == ()


def test_the_turns_of_a_conversation_keep_their_key():
    one, two = (planned("conversation", GPT_4, each) for each in (PROMPT, PROMPT.ai("2").user("Three")))
    assert one.prompt_cache_key == two.prompt_cache_key


@pytest.mark.parametrize("pattern", [row.name for row in ROWS.values() if row.goes_on])
@pytest.mark.parametrize("base", [Conversation(), Conversation.system("Be brief.")])
def test_prompts_that_go_on_from_each_other_keep_their_key(pattern, base):
    turns = [base.user("One")]
    for number in range(4):
        turns.append(turns[-1].ai(f"Answer {number}").user(f"Question {number}"))
    planner = Planner(PromptCache(pattern=pattern), GPT_4)
    assert len({planner.plan(turn).prompt_cache_key for turn in turns}) == 1
    assert (
        planner.plan(base.user("Two") if not base.messages else Conversation.system("Else.").user("One")) not in turns
    )


def test_shards_are_caches_of_their_own():
    plan = Planner(PromptCache(), GPT_4).plan(PROMPT)
    plans = [plan.with_shard(number) for number in range(3)]
    assert len({plan.prompt_cache_key for plan in plans}) == 3
    assert len({plan.prefixes[0].id for plan in plans}) == 3
    assert plans[0] == plan
    keyless = Planner(PromptCache(), CLAUDE).plan(PROMPT)
    assert keyless.with_shard(2) == keyless


def test_keys_are_the_same_in_every_process():
    code = "from lm_deluge.prompt_cache import cache_key; print(cache_key(b'prefix'))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert found == cache_key(b"prefix") == "cb9fd4e93acc4fd8679ff4e6-0"
    assert len(found) <= 64


# Marks that the user set


def with_breakpoint(ttl=None) -> ProviderBlock:
    breakpoint_ = {"type": "ephemeral"} if ttl is None else {"type": "ephemeral", "ttl": ttl}
    return ProviderBlock("anthropic", {"type": "text", "text": "theirs", "cache_control": breakpoint_})


def test_their_breakpoints_count():
    theirs = Conversation(
        [
            Message.system(SYSTEM),
            Message("user", (with_breakpoint(), with_breakpoint(), Text("x"))),
            *PROMPT.messages[2:],
        ]
    )
    assert [point.index for point in planned("conversation", conversation=theirs).breakpoints] == [0, 3]
    planner = Planner(PromptCache(pattern="conversation"), CLAUDE, reserved=3)
    assert [point.index for point in planner.plan(PROMPT).breakpoints] == [3]
    planner = Planner(PromptCache(pattern="conversation"), CLAUDE, reserved=4)
    assert planner.plan(PROMPT).breakpoints == ()


@pytest.mark.parametrize(
    ("theirs", "ours", "before", "after"),
    [(None, "1h", "1h", "5m"), ("1h", None, "1h", None), ("1h", "1h", "1h", "1h"), ("5m", None, None, None)],
)
def test_lifetimes_never_get_longer_along_the_prompt(theirs, ours, before, after):
    prompt = Conversation(
        [Message.system(SYSTEM), Message("user", (with_breakpoint(theirs),)), Message.ai("x"), Message.user("y")]
    )
    first, *_, last = planned("conversation", conversation=prompt, ttl=ours).breakpoints
    assert (first.index, last.index) == (0, 3)
    assert (first.ttl, last.ttl) == (before, after)


def test_blocks_of_other_providers_are_not_breakpoints():
    block = ProviderBlock("elsewhere", {"cache_control": {"type": "ephemeral", "ttl": "5m"}})
    prompt = Conversation([Message("user", (block,)), *PROMPT.messages])
    assert {point.ttl for point in planned("conversation", conversation=prompt, ttl="1h").breakpoints} == {"1h"}


@pytest.mark.parametrize("pattern", ["system_and_tools", "tools_only"])
def test_behind_their_breakpoint_nothing_is_cached_either(pattern):
    block = {"type": "text", "text": SYSTEM, "prompt_cache_breakpoint": {"mode": "explicit"}}
    prompt = Conversation([Message("user", (ProviderBlock("openai-chat", block), Text("varies")))])
    assert planned(pattern, GPT_6, prompt).cache_tail is False
    assert planned("conversation", GPT_6, prompt).cache_tail is True
    assert planned(pattern, GPT_6, Conversation.user("varies")).cache_tail is None, (
        "without a breakpoint that is no caching"
    )


def test_an_impossible_lifetime_of_theirs_is_named():
    prompt = Conversation([Message.system(SYSTEM), Message("user", (with_breakpoint("2h"),))])
    with pytest.raises(ConfigError, match="'2h'"):
        planned("system_and_tools", conversation=prompt)


def test_the_results_of_an_agents_turn_open_it_in_the_prefix_too():
    """Anthropic is sent results first, so a breakpoint on the text before them covers the results."""
    turn = [Message.user("Go"), Message("assistant", (ToolCall("1", "f"),))]
    text_first = Conversation([*turn, Message("user", (Text("Now"), ToolResult("1", "r" * 5_000)))])
    breakpoints = (Breakpoint("messages", 2, 0),)
    assert prefix(text_first, (), breakpoints, model=CLAUDE).tokens > 1_000
    assert prefix(text_first, (), breakpoints, model=resolve("openrouter/x/y", environ={})).tokens > 1_000


def test_where_nothing_is_shared_nothing_is_written():
    """A provider that caches the end of each prompt by itself would have each of them written, and none read."""
    planner = Planner(PromptCache(pattern="shared_prefix"), GPT_6)
    prompts = [Conversation.user(f"{number} " * 3_000) for number in range(3)]
    planner.learn(prompts)
    plan = planner.plan(prompts[0])
    assert (plan.breakpoints, plan.cache_tail) == ((), False)
    used = predict([(each, planner.plan(each)) for each in prompts], GPT_6)
    assert not any(usage.has_cache_write for usage in used)
    assert all(usage.has_cache_write for usage in predict([(each, CachePlan()) for each in prompts], GPT_6))


@pytest.mark.parametrize(
    ("model", "wire", "name"),
    [(CLAUDE, "anthropic", "cache_control"), (GPT_6, "openai-chat", "prompt_cache_breakpoint")],
)
def test_breakpoints_of_the_user_take_their_places(model, wire, name):
    own = [ProviderBlock(wire, {"type": "text", "text": f"{n}", name: {"type": "ephemeral"}}) for n in range(3)]
    prompt = Conversation([*BASE.messages, Message("user", own), *BASE.user("x").ai("y").user("z").messages[1:]])
    found = planned("last_3_user_messages", model, prompt).breakpoints
    assert len(found) == (1 if model is CLAUDE else 0)  # the end of the prompt is one more that OpenAI sets
