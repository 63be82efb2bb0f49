"""What is said about caching that does not work, and that nothing is said about caching that does."""

from datetime import date

import pytest

from lm_deluge.models import resolve
from lm_deluge.prompt import Conversation, Image, Message, Text
from lm_deluge.prompt_cache import Planner, Prefix, PromptCache
from lm_deluge.prompt_cache.advice import (
    advise,
    advise_ahead,
    lifetimes_out_of_order,
    retired,
    too_many_breakpoints,
    tools_reordered,
)
from lm_deluge.request import Breakpoint
from lm_deluge.tool import Tool

CLAUDE = resolve("claude-sonnet-4-6", environ={})
GPT = resolve("gpt-6.1-sol", environ={})
OLD = resolve("gpt-4.1", environ={})
GROQ = resolve("groq/llama-3.3-70b", environ={})
TODAY = date(2026, 11, 23)
RULES = "Be kind. " * 1_000
TOOLS = (Tool(name="a", description=RULES), Tool(name="b"))


def said(prompts, model=CLAUDE, tools=(), *, seen=None, **options):
    cache = PromptCache(**options)
    planner = Planner(cache, model, tools)
    planner.learn(prompts)
    return {
        each.kind: each.message
        for each in advise(cache, model, tools, [(each, planner.plan(each)) for each in prompts], **seen or {})
    }


def prompts(text="{}", system=RULES, count=4):
    start = Conversation() if system is None else Conversation.system(system)
    return [start.user(text.format(number)) for number in range(count)]


@pytest.mark.parametrize("model", [CLAUDE, GPT, OLD])
@pytest.mark.parametrize("pattern", ["system_and_tools", "shared_prefix", "conversation", "automatic"])
def test_nothing_is_said_about_what_works(model, pattern):
    assert said(prompts(), model, pattern=pattern) == {}


def test_a_prefix_below_the_minimum():
    message = said(prompts(system="Be kind. " * 100))["too_short"]
    assert "about 225 tokens" in message
    assert "nothing below 1,024" in message
    assert said(prompts(system="Be kind. " * 100), GPT).keys() == {"too_short"}


@pytest.mark.parametrize("seen", [{"is_read": True}, {"longest": Prefix(b"", 6_000)}])
@pytest.mark.parametrize("system", [None, "Be kind."])
def test_nothing_is_said_that_is_not_true_of_all_prompts(seen, system):
    assert said(prompts(system="Be kind."), seen={"longest": Prefix(b"", 6_000)} | seen) == {}
    assert said(prompts(system=system), seen={"longest": Prefix(b"", 6_000)}) == {}


def test_too_short_to_be_cached_is_one_fact():
    varying = [Conversation.system(f"It is 12:0{number}.").user("Hi") for number in range(4)]
    assert said(varying).keys() == {"too_short"}
    short = said(prompts("question {}", system=None, count=12), pattern="last_user_message", seen={"answers": 12})
    assert short.keys() == {"too_short"}


@pytest.mark.parametrize("pattern", ["conversation", "last_user_message"])
def test_a_chat_that_begins_is_not_told_that_it_is_short(pattern):
    turns = [Conversation.system("Be kind.").user("Hi")]
    while len(turns) < 11:
        turns.append(turns[-1].ai("Hello.").user("How are you?"))
    assert said(turns[:1], pattern=pattern) == {}
    assert said(turns[:10], pattern=pattern, seen={"answers": 1}) == {}
    assert said(turns, pattern=pattern, seen={"answers": 1}).keys() == {"too_short"}, "a long one that stays short"
    assert said(turns[:1], pattern=pattern, seen={"answers": 10}).keys() == {"too_short"}, "one of many"


def test_a_breakpoint_on_what_varies_names_the_first_character_that_does():
    clock = [Conversation.system(f"{RULES}It is 12:0{number}.").user("Hi") for number in range(4)]
    message = said(clock)["nothing_shared"]
    assert "differs in every one of the latest 4 prompts" in message
    assert "messages[0] (system) at character 9,010: …'. It is 12:00.' and …'. It is 12:01.'" in message
    assert message.endswith("Put what they share into a message, or a part of one, of its own.")
    questions = said(prompts("question {}"), pattern="last_user_message")["nothing_shared"]
    assert "messages[1] (user) at character 9: 'question 0' and 'question 1'" in questions
    assert questions.endswith("Move what varies behind what they share, or use the pattern 'shared_prefix'.")


@pytest.mark.parametrize("pattern", ["conversation", "automatic"])
def test_turns_of_which_none_reads_the_one_before_are_told_where_they_part(pattern):
    turns = Conversation.user("Hi")
    asked = []
    for number in range(5):
        asked.append(Conversation([Message.system(f"It is 12:0{number}. {RULES}"), *turns.messages]))
        turns = turns.ai("Hello.").user(f"And {number}?")
    message = said(asked, pattern=pattern)["nothing_shared"]
    assert message.startswith("No turn of a conversation reads what the one before has written. The first two part in ")
    assert "messages[0] (system) at character 10: 'It is 12:00. " in message
    assert message.endswith("Move what varies behind what the turns share, for example into the latest message.")
    assert said(asked, pattern=pattern, seen={"is_read": True}) == {}
    same = [Conversation([Message.system(RULES), *each.messages[1:]]) for each in asked]
    assert said(same, pattern=pattern) == {}, "they go on from each other, so it has another reason"
    others = [Conversation.system(f"{number} {RULES}").user("Hi") for number in range(5)]
    assert said(others, pattern=pattern) == {}, "first turns of several conversations"


def test_what_is_shared_inside_a_block_takes_no_breakpoint():
    alike = [Conversation.user(f"{RULES} {number}") for number in range(4)]
    message = said(alike, pattern="shared_prefix")["no_breakpoint"]
    assert "messages[0] (user) at character 9,001" in message
    assert "Put what the prompts share into a message" in message


def test_a_difference_that_is_no_text_is_placed():
    images = [Image(data=b"\x89PNG\r\n\x1a\n" + bytes([number]), media_type="image/png") for number in range(3)]
    varying = [Conversation([Message("user", (Text(RULES), image))]) for image in images]
    assert "part in messages[0] (user), part 1." in said(varying, pattern="last_user_message")["nothing_shared"]


def test_two_prompts_prove_nothing():
    assert said(prompts("question {}", count=2), pattern="last_user_message") == {}


@pytest.mark.parametrize(
    ("model", "tools", "pattern", "words"),
    [
        (CLAUDE, (), "system_and_tools", "neither a system message nor tools"),
        (CLAUDE, (), "tools_only", "have no tools"),
        (CLAUDE, (), "shared_prefix", "what the prompts begin with alike is too short. The first two part"),
        (GPT, TOOLS, "tools_only", "takes no cache breakpoint on tools.*'system_and_tools'"),
        (OLD, (), "tools_only", "have no tools"),
    ],
)
def test_a_pattern_that_finds_nothing(model, tools, pattern, words):
    import re

    found = said(prompts(system=None), model, tools, pattern=pattern)
    assert found.keys() == {"no_breakpoint"}
    assert re.search(words, found["no_breakpoint"])


def test_nothing_is_said_where_nothing_can_be_done():
    assert said(prompts(system=None), GROQ) == {}


def test_tools_in_another_order():
    assert "another order" in tools_reordered(TOOLS, TOOLS[::-1]).message
    assert tools_reordered(TOOLS, TOOLS) is None
    assert tools_reordered(TOOLS, (*TOOLS, Tool(name="c"))) is None
    shuffled = [
        Tool(name="f", parameters={"type": "object", "properties": {name: {"type": "string"} for name in names}})
        for names in ("ab", "ba")
    ]
    assert "schema of tool 'f'" in tools_reordered(shuffled[:1], shuffled[1:]).message


def test_more_breakpoints_than_are_taken():
    breakpoints = [Breakpoint("messages", number) for number in range(4)]
    assert too_many_breakpoints(breakpoints, CLAUDE.caching) is None
    assert too_many_breakpoints(breakpoints, CLAUDE.caching, reserved=1).message.startswith("5 cache breakpoints")
    assert too_many_breakpoints([*breakpoints, breakpoints[0]], OLD.caching) is None


@pytest.mark.parametrize(
    ("ttls", "wrong"),
    [(["1h", "5m"], False), ([None, None], False), (["1h", None], False), ([None, "1h"], True), (["5m", "12h"], True)],
)
def test_lifetimes_that_get_longer(ttls, wrong):
    found = lifetimes_out_of_order([Breakpoint("messages", at, 0, ttl) for at, ttl in enumerate(ttls)], CLAUDE.caching)
    assert (found is not None) == wrong
    assert found is None or f"a lifetime of {ttls[1]} too" in found.message


def test_a_lifetime_that_the_provider_does_not_have():
    def ahead(model, ttl):
        return "".join(each.message for each in advise_ahead(PromptCache(ttl=ttl), model, today=TODAY))

    assert "no cache lifetime of 30m; 1h is used" in ahead(CLAUDE, "30m")
    assert "12h; 30m is used" in ahead(GPT, "12h")
    assert ahead(CLAUDE, "1h") == ""
    assert "gives no choice of how long" in ahead(OLD, "1h")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("claude-sonnet-4-5", "stops being served on 2026-11-30"),
        ("o3-mini", "stopped being served on 2026-10-23"),
        ("gpt-4.1", None),
        ("claude-opus-5-5", None),
    ],
)
def test_models_that_are_switched_off(name, words):
    found = retired(resolve(name, environ={}), TODAY)
    assert (found is None) == (words is None)
    assert found is None or words in found.message
