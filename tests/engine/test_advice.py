"""Advice on how prompts are cached: seen across a client's runs, given once, and followed by what the provider says."""

import asyncio
import warnings

import pytest

from lm_deluge import Conversation, LLMClient, Message, PromptCache, Tool
from lm_deluge.engine.warnings import Advisor
from lm_deluge.errors import ModelWarning, PromptCacheWarning
from lm_deluge.models import resolve
from lm_deluge.prompt import ProviderBlock, Text
from lm_deluge.prompt_cache import CachePlan, Prefix
from lm_deluge.testing import Emulator, Fault

MODEL = "claude-haiku-4-5"
LONG = "You solve problems step by step. " * 800  # 6,600 tokens


def advice_of(work):
    """The advice that some work gives, in order."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    return [str(each.message) for each in caught if issubclass(each.category, PromptCacheWarning)]


def in_one_loop(client, prompts, **options):
    """Each prompt in a run of its own, as a program asks that works on one thing at a time."""

    async def main():
        responses = [await client.start(prompt, **options) for prompt in prompts]
        assert not any(response.is_error for response in responses)
        return responses

    return asyncio.run(main())


def test_prompts_asked_one_by_one_are_seen_together(make_client, emulator):
    client = make_client(MODEL)
    prompts = [Conversation.system(f"It is {minute:02d} past ten. {LONG}").user("Go") for minute in range(20)]
    (advice,) = advice_of(lambda: in_one_loop(client, prompts, cache="system_and_tools"))
    assert "differs in every one of" in advice
    assert "part in messages[0] (system) at character 7: 'It is 00 past ten. You solve pr' and 'It is 01" in advice
    assert advice.endswith("Move what varies behind what they share.")


def test_what_is_read_is_shared_however_many_prefixes_there_are(make_client, emulator):
    client = make_client(MODEL)
    prompts = [Conversation.system(f"Document {n}. {LONG}").user(f"{turn}") for turn in (1, 2) for n in range(30)]
    assert advice_of(lambda: in_one_loop(client, prompts[:1] * 2 + prompts, cache="system_and_tools")) == []


def test_advice_is_given_once_for_all_runs(make_client, emulator):
    client = make_client(MODEL)
    short = [Conversation.system("Be brief.").user(f"{n}") for n in range(40)]
    (advice,) = advice_of(lambda: in_one_loop(client, short, cache="system_and_tools"))
    assert "caches nothing below 4,096" in advice


def alone(system, count=16):
    base = Conversation() if system is None else Conversation.system(system)
    return [base.user(f"{n}") for n in range(count)]


@pytest.mark.parametrize(
    ("pattern", "last"),
    [("system_and_tools", "Be brief."), ("system_and_tools", None), ("shared_prefix", None), ("shared_prefix", "Hi")],
)
def test_the_last_prompts_do_not_speak_for_all(make_client, emulator, pattern, last):
    client = make_client(MODEL)
    prompts = [*alone(LONG, 40), *alone(last)]
    assert advice_of(lambda: client.process_prompts_sync(prompts, cache=pattern, show_progress=False)) == []
    assert emulator.stats().cache_reads == 39


@pytest.mark.parametrize("faults", [0, 1, 3])
def test_a_retry_is_no_other_prompt(make_client, emulator, instant_clock, faults):
    emulator.script([None] * 8 + [Fault.error(500)] * faults)
    client = make_client(MODEL, clock=instant_clock)
    prompts = [Conversation.system(f"Document {n}. {LONG}").user("Go") for n in range(16)]
    (advice,) = advice_of(lambda: client.process_prompts_sync(prompts, cache="system_and_tools", show_progress=False))
    assert "differs in every one of the latest 16 prompts" in advice


def test_what_had_no_prefix_the_first_time_may_have_one_the_next(make_client, emulator):
    client = make_client(MODEL)
    prompts = [Conversation.system(LONG).user(f"{n}") for n in range(2)]
    assert "has no effect" in advice_of(lambda: in_one_loop(client, prompts[:1], cache="shared_prefix"))[0]
    assert advice_of(lambda: in_one_loop(client, prompts * 2, cache="shared_prefix")) == []


def test_a_chat_is_not_told_that_it_begins_short(make_client, emulator):
    client = make_client(MODEL)
    turns = [Conversation.system("You are short.").user("hello " * 600)]
    while len(turns) < 12:
        turns.append(turns[-1].ai("Yes.").user("hello " * 600))
    assert advice_of(lambda: in_one_loop(client, turns, cache="conversation")) == []
    assert emulator.stats().cache_reads > 5


@pytest.mark.parametrize(
    ("model", "cache"),
    [
        (MODEL, PromptCache(ttl="12h")),
        ("gpt-4.1-mini", PromptCache(ttl="1h")),
        ("no-such-model", PromptCache()),
        ("claude-3-opus-20240229", PromptCache()),
    ],
)
def test_what_is_known_ahead_is_said_before_anything_is_sent(make_client, emulator, model, cache):
    """Where warnings are errors it stops every run, and not only the first of those that begin at once."""
    client = make_client(model, base_url=emulator.url if model.startswith("claude") else emulator.openai_base_url)

    async def main():
        numbers = [client.start_nowait("Hi", cache=cache) for _ in range(3)]
        return await asyncio.gather(*(client.wait_for(each) for each in numbers), return_exceptions=True)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcomes = asyncio.run(main())
    assert [type(each) for each in outcomes] == [PromptCacheWarning] * 3
    assert emulator.calls == 0
    assert len(advice_of(lambda: in_one_loop(client, ["Hi", "Hello"], cache=cache))) >= 1


@pytest.mark.parametrize("pattern", ["system_and_tools", "tools_only"])
def test_behind_a_breakpoint_of_the_user_nothing_is_written(make_client, emulator, pattern):
    block = {"type": "text", "text": LONG, "prompt_cache_breakpoint": {"mode": "explicit"}}
    prompts = [Conversation([Message("user", [ProviderBlock("openai-chat", block), Text(f"{n}")])]) for n in range(9)]
    client = make_client("gpt-6-sol")
    assert advice_of(lambda: client.process_prompts_sync(prompts, cache=pattern, show_progress=False)) == []
    stats = emulator.stats()
    assert (stats.cache_writes, stats.cache_reads) == (1, 8)
    assert {request.json["prompt_cache_options"]["mode"] for request in emulator.requests} == {"explicit"}


def test_tools_in_another_order_lose_the_cache(make_client, emulator):
    client = make_client(MODEL)
    tools = [Tool(name=name, description="Look. " * 3_000) for name in ("first", "second")]

    async def main():
        for chosen in (tools, tools, tools[::-1], tools):
            await client.start("Hello", tools=chosen, cache="tools_only")

    (advice,) = advice_of(lambda: asyncio.run(main()))
    assert "The same tools come in another order than in the request before" in advice
    assert emulator.stats().cache_writes == 2


def with_breakpoint(text, ttl="5m"):
    return ProviderBlock(
        "anthropic", {"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}}
    )


def test_too_many_breakpoints_are_told_before_the_provider_refuses_them(make_client, emulator):
    client = make_client(MODEL)
    own = Conversation([Message("user", [with_breakpoint(f"{n} " * 20) for n in range(4)])])
    base = Conversation([*Conversation.system(LONG).messages, *own.messages])
    (advice,) = advice_of(lambda: in_one_loop(client, [base], cache="system_and_tools"))
    assert "5 cache breakpoints are asked for, and a request takes 4" in advice
    five = Conversation([Message("user", [with_breakpoint(LONG) for _ in range(5)])])
    other = make_client(MODEL)
    found = advice_of(lambda: other.process_prompts_sync([five], cache="tools_only", show_progress=False))
    assert any("own blocks hold 5 cache breakpoints" in each and "refuses" in each for each in found)


def test_lifetimes_in_the_wrong_order_are_told(make_client, emulator):
    client = make_client(MODEL)
    prompt = Conversation([Message("user", [with_breakpoint(LONG, "5m"), with_breakpoint("More.", "1h"), Text("Go")])])
    found = advice_of(lambda: client.process_prompts_sync([prompt], cache="tools_only", show_progress=False))
    assert any("A cache breakpoint of 1h stands behind one of 5m" in each for each in found)


# The provider's own word


def compared(emulator):
    """The answers that requests named to be compared with."""
    return [request.json["diagnostics"]["previous_message_id"] for request in emulator.requests]


@pytest.mark.parametrize("pattern", ["conversation", "last_user_message", "automatic"])
def test_the_provider_says_why_it_read_nothing(make_client, emulator, pattern):
    """Two chats in turn, and the system text of one changes on its way."""
    client = make_client(MODEL)
    one, two = Conversation.user("Hi").ai("Hello"), Conversation.user("Good day").ai("Hello")
    turns = []
    for number in range(5):
        for chat, version in ((one, number // 3), (two, 0)):
            prompt = Conversation([Message.system(f"{LONG} Version {version}."), *chat.messages[: 1 + 2 * number]])
            turns.append(prompt)
        one, two = (chat.user(f"{number}").ai("Yes") for chat in (one, two))
    cache, responses = PromptCache(pattern, diagnostics=True), []
    (advice,) = advice_of(lambda: responses.extend(in_one_loop(client, turns, cache=cache)))
    assert compared(emulator) == [None, None, *(response.response_id for response in responses[:-2])]
    assert client.report().cache_miss_reasons == {"system_changed": 1}
    assert advice == (
        "1 prompt was not read from the provider's cache, which says system_changed: the system text differs from the "
        "request before. Move what varies behind it."
    )


@pytest.mark.parametrize("pattern", ["shared_prefix", "system_and_tools"])
def test_groups_side_by_side_are_not_compared_with_each_other(make_client, emulator, pattern):
    client = make_client(MODEL, max_concurrent_requests=4)
    client.estimate([])  # looks up prices, without which no answer is finished
    prompts = [Conversation.system(f"{k} {LONG}").user(f"{n}") for k in range(4) for n in range(10)]
    cache = PromptCache(pattern, diagnostics=True)
    responses = []
    assert advice_of(lambda: responses.extend(client.process_prompts_sync(prompts, cache=cache))) == []
    assert emulator.stats().cache_writes == 4
    group = {response.response_id: response.id // 10 for response in responses}
    asked = [int(request.json["system"][0]["text"][0]) for request in emulator.requests]
    named = zip(asked, compared(emulator), strict=True)
    pairs = [(own, group[answer]) for own, answer in named if answer is not None]
    assert len(pairs) > 20
    assert sum(own != other for own, other in pairs) <= 3, "the first of each, as long as nothing has been read"


def test_where_nothing_is_read_the_provider_says_why(make_client, emulator):
    """Each prompt is a group of its own, because the time of day is at its beginning."""
    client = make_client(MODEL, max_concurrent_requests=1)
    prompts = [Conversation.system(f"It is {n} o'clock. {LONG}").user("Go") for n in range(4)]
    cache = PromptCache(diagnostics=True)
    responses = []
    found = advice_of(lambda: responses.extend(client.process_prompts_sync(prompts, cache=cache)))
    assert any("3 prompts were not read from the provider's cache, which says system_changed" in each for each in found)
    assert compared(emulator) == [None, *(response.response_id for response in responses[:-1])]
    assert client.last_report.cache_miss_reasons == {"system_changed": 3}


def test_only_the_latest_lines_of_prompts_are_remembered():
    advisor, model, cache = Advisor(), resolve(MODEL, environ={}), PromptCache(diagnostics=True)
    prompt = Conversation.user("Go")
    plans = [CachePlan(prefixes=(Prefix(b"%d" % n, 5_000),)) for n in range(5_000)]
    for number, plan in enumerate(plans):
        advisor.answered(model, cache, prompt, plan, f"msg_{number}", is_read=False)
        assert advisor.answer_before(model, cache, prompt, plan) == f"msg_{number}"
    kept = [advisor.answer_before(model, cache, prompt, plan) is not None for plan in plans]
    assert kept == [False] * 904 + [True] * 4_096


def test_nobody_is_asked_for_reasons_unless_that_is_wanted(make_client, emulator):
    client = make_client(MODEL)
    in_one_loop(client, [Conversation.system(LONG).user("Go")] * 2, cache="system_and_tools")
    assert all("diagnostics" not in request.json for request in emulator.requests)
    assert client.report().cache_miss_reasons == {}


def test_a_fan_out_reads_although_its_tails_differ(make_client, emulator):
    client = make_client(MODEL)
    prompts = [Conversation.system(LONG).user(f"Question {n}") for n in range(30)]
    assert advice_of(lambda: client.process_prompts_sync(prompts, cache=PromptCache(diagnostics=True))) == []
    assert client.last_report.cache_miss_reasons == {}


# Tiers and keys


@pytest.mark.parametrize(("tier", "factor"), [("default", 1.0), ("flex", 0.5), ("priority", 2.0)])
def test_an_answer_costs_what_its_tier_costs(make_client, emulator, tier, factor):
    client = make_client("gpt-6-sol", extra_body={"service_tier": tier})
    (response,) = client.process_prompts_sync(["What is 2+2?"], show_progress=False)
    plain = make_client("gpt-6-sol").process_prompts_sync(["What is 2+2?"], show_progress=False)[0]
    assert response.cost == pytest.approx(factor * plain.cost)
    assert client.last_report.cost + plain.cost == pytest.approx(emulator.bill().cost)


def test_a_tier_without_a_price_is_not_billed_as_another(make_client, emulator):
    client = make_client("gpt-4.1-mini", extra_body={"service_tier": "flex"})
    with pytest.warns(ModelWarning, match="in service tier 'flex'; the cost of such answers is None"):
        (response,) = client.process_prompts_sync(["What is 2+2?"], show_progress=False)
    assert response.cost is None
    assert client.last_report.unpriced == 1


def test_routing_keys_are_filled_one_after_the_other():
    """Fifteen requests a minute go with one key; the next minute begins with the first again."""
    with Emulator() as emulator:
        client = LLMClient(
            "gpt-4.1-mini",
            base_url=emulator.openai_base_url,
            api_key="any",
            max_concurrent_requests=1,
            max_tokens_per_minute=10_000_000,
        )
        prompts = [Conversation.system(LONG).user(f"{n}") for n in range(40)]
        client.process_prompts_sync(prompts, cache="system_and_tools", show_progress=False)
        client.close()
        keys = [request.json["prompt_cache_key"] for request in emulator.requests]
        reads = [request.cache.read > 0 for request in emulator.requests]
    assert [key.rpartition("-")[2] for key in keys] == ["0"] * 15 + ["1"] * 15 + ["2"] * 10
    assert len({key.rpartition("-")[0] for key in keys}) == 1
    assert [at for at, read in enumerate(reads) if not read] == [0, 15, 30]
