"""Prefixes that prompts share: which blocks get a breakpoint, and that breakpoints stay where they are."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_deluge.models import resolve
from lm_deluge.prompt import Conversation, Image, Message, Text, Thinking
from lm_deluge.prompt_cache import Planner, PrefixIndex, PrefixIndexes, PromptCache
from lm_deluge.request import Breakpoint
from lm_deluge.tool import Tool

CLAUDE = resolve("claude-sonnet-4-5", environ={})  # caches from 1,024 tokens on
GPT = resolve("gpt-6.1-sol", environ={})


def words(name: str, tokens: int = 2_000) -> str:
    return f"{name:<4}" * tokens


def user(*texts: str) -> Message:
    return Message("user", [Text(text) for text in texts])


def prompt(*messages: Message) -> Conversation:
    return Conversation(messages)


def index(*prompts: Conversation, model=CLAUDE, tools=(), **options) -> PrefixIndex:
    made = PrefixIndex(model, tools, **options)
    made.add(prompts)
    return made


def at(*places: tuple[int, int]) -> tuple[Breakpoint, ...]:
    return tuple(Breakpoint("messages", *place) for place in places)


def test_the_last_shared_block_is_cached_and_not_the_tail():
    prompts = [prompt(user(words("a"), words("b"), f"question {number}")) for number in range(5)]
    found = index(*prompts)
    assert {found.breakpoints(each) for each in prompts} == {at((0, 1))}


def test_messages_and_blocks_of_any_kind_count():
    image = Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png")
    shots = [
        user("Look", words("x")),
        Message("assistant", (Thinking("hm", "s"), Text("A."))),
        Message("user", (image,)),
    ]
    prompts = [prompt(Message.system("Rules"), *shots, user(f"question {number}")) for number in range(3)]
    assert index(*prompts).breakpoints(prompts[0]) == at((3, 0))
    other = Image(data=b"\x89PNG\r\n\x1a\n.", media_type="image/png")  # one byte more is another prefix
    prompts[0] = prompt(Message.system("Rules"), *shots[:2], Message("user", (other,)), user("question 0"))
    assert index(*prompts).breakpoints(prompts[0]) == at((2, 1))


def test_several_groups_at_once():
    prompts = [
        prompt(Message.system(words(name)), user(f"{name} {number}")) for name in "abcdefgh" for number in range(3)
    ]
    random.Random(1).shuffle(prompts)
    found = index(*prompts)
    assert {found.breakpoints(each) for each in prompts} == {at((0, 0))}


def test_groups_inside_groups_get_a_breakpoint_each_the_outermost_first():
    prompts = [
        prompt(Message.system(words("s")), user(words(document)), Message.ai("Yes?"), user(f"{document} {number}"))
        for document in "abc"
        for number in range(2)
    ]
    found = index(*prompts)
    assert found.breakpoints(prompts[0]) == at((0, 0), (2, 0))
    assert found.breakpoints(prompts[0], most=1) == at((0, 0))
    assert found.breakpoints(prompts[0], most=0) == ()


def test_where_prompts_part_in_what_takes_no_breakpoint_the_block_before_gets_one():
    said = [Message("assistant", (Text(words("x")), *map(Thinking, thoughts, "ss"))) for thoughts in ("a", "ab", "ac")]
    prompts = [prompt(user("Hi"), each, user(f"question {number}")) for each in said for number in range(2)]
    found = index(*prompts)
    assert {found.breakpoints(each) for each in prompts} == {at((1, 0))}


def test_four_breakpoints_are_enough():
    chain = [user(words(name)) for name in "abcdefg"]
    prompts = [prompt(*chain[:depth], user(f"{depth} {number}")) for depth in range(1, 8) for number in range(2)]
    found = index(*prompts)
    assert found.breakpoints(prompts[-1]) == at((0, 0), (1, 0), (2, 0), (3, 0))


@pytest.mark.parametrize(("tokens", "breakpoints"), [(700, ()), (1_024, at((0, 0)))])
def test_a_prefix_that_the_model_would_not_cache_gets_no_breakpoint(tokens, breakpoints):
    prompts = [prompt(user(words("a", tokens)), user(f"question {number}")) for number in range(2)]
    assert index(*prompts).breakpoints(prompts[0]) == breakpoints


def test_one_prompt_alone_shares_nothing_and_equal_ones_share_all():
    alone = prompt(user(words("a")), user("question"))
    assert index(alone).breakpoints(alone) == ()
    assert index(alone, alone).breakpoints(alone) == at((1, 0))


def test_a_prompt_that_was_not_added_reads_what_others_share():
    prompts = [prompt(user(words("a")), user(f"question {number}")) for number in range(2)]
    assert index(*prompts).breakpoints(prompt(user(words("a")), user("new"))) == at((0, 0))
    assert index(*prompts).breakpoints(prompt(user(words("b")), user("new"))) == ()


def test_tools_are_the_first_thing_that_is_shared():
    tools = [Tool(name="a", description=words("t")), Tool(name="b")]
    prompts = [prompt(user(f"question {number}")) for number in range(2)]
    assert index(*prompts, tools=tools).breakpoints(prompts[0]) == (Breakpoint("tools", 1),)
    assert index(*prompts, tools=tools, model=GPT).breakpoints(prompts[0]) == (), (
        "no breakpoint can stand on a tool there"
    )


def test_system_text_is_read_first_where_the_provider_does_so():
    prompts = [prompt(user(f"question {number}"), Message.system(words("s"))) for number in range(2)]
    assert index(*prompts).breakpoints(prompts[0]) == at((1, 0))
    assert index(*prompts, model=GPT).breakpoints(prompts[0]) == ()


def test_a_later_chunk_leaves_breakpoints_where_they_are():
    long = [prompt(user(words("a")), user(words("b")), user(f"question {number}")) for number in range(3)]
    found = index(*long)
    assert found.breakpoints(long[0]) == at((1, 0))
    short = [prompt(user(words("a")), user(f"other {number}")) for number in range(3)]
    found.add(short)
    assert found.breakpoints(short[0]) == at((0, 0))
    assert at((1, 0))[0] in found.breakpoints(long[1])


def test_breakpoints_in_use_come_before_new_ones():
    chain = [user(words(name)) for name in "abcdef"]
    deep = [prompt(*chain, user(f"question {number}")) for number in range(2)]
    found = index(*deep)
    assert found.breakpoints(deep[0]) == at((5, 0))
    found.add([prompt(*chain[:depth], user(f"{depth} {number}")) for depth in range(1, 6) for number in range(2)])
    assert found.breakpoints(deep[1]) == at((0, 0), (1, 0), (2, 0), (5, 0))


def test_memory_is_bounded_and_what_is_shared_is_remembered():
    found = PrefixIndex(CLAUDE, capacity=100)
    shared = Message.system(words("s"))
    for number in range(2_000):
        found.add([prompt(shared, user(f"question {number}"), Message.ai("?"), user("x"))])
        assert len(found) <= 104
    assert found.breakpoints(prompt(shared, user("new"))) == at((0, 0))


def test_what_is_cached_is_forgotten_last():
    """Two prompts made a breakpoint; meanwhile other prefixes, shared by more, have filled the memory."""
    found = PrefixIndex(CLAUDE, capacity=100)
    pair = [prompt(user(words("a")), user(f"question {number}")) for number in range(2)]
    found.add(pair)
    assert found.breakpoints(pair[0]) == at((0, 0))
    for number in range(200):
        found.add([prompt(user(f"other {number}"))] * 3)
    assert found.breakpoints(pair[1]) == at((0, 0))


texts = st.sampled_from(["", " ", "Q", words("a"), words("b"), words("c", 300)])
messages = st.builds(
    Message, st.sampled_from(["system", "user"]), st.lists(texts.map(Text), min_size=1, max_size=2)
) | st.builds(
    Message,
    st.just("assistant"),
    st.lists(texts.map(Text) | st.sampled_from([Thinking("a", "s"), Thinking("b", "s")]), min_size=1, max_size=3),
)
batches = st.lists(st.lists(messages, min_size=1, max_size=5).map(Conversation), min_size=2, max_size=12)


@given(batches, st.integers(1, 11), st.sampled_from([CLAUDE, GPT]))
def test_every_breakpoint_stands_on_what_two_prompts_share_and_never_moves(batch, cut, model):
    from lm_deluge.prompt_cache.layout import Reader

    reader = Reader(model)
    chains = [{block.place: digest for block, digest, _ in reader.chain(each)} for each in batch]
    found = index(*batch[:cut], model=model)
    early = [found.breakpoints(each) for each in batch[:cut]]
    found.add(batch[cut:])
    late = [found.breakpoints(each) for each in batch]
    for chain, breakpoints in zip(chains, late, strict=True):
        assert len(set(breakpoints)) == len(breakpoints) <= 4
        for point in breakpoints:
            digest = chain[point.section, point.index, point.part]
            assert sum(digest in other.values() for other in chains) >= 2
    for before, after in zip(early, late, strict=False):
        assert set(before) <= set(after) or len(after) == 4


def planned(indexes: PrefixIndexes, *prompts: Conversation) -> set[tuple[Breakpoint, ...]]:
    """Where a run of one client sets breakpoints."""
    planner = Planner(PromptCache("shared_prefix"), CLAUDE, indexes=indexes)
    planner.learn(prompts)
    return {planner.plan(prompt).breakpoints for prompt in prompts}


def test_samples_of_a_prompt_that_an_earlier_run_asked_share_it():
    indexes = PrefixIndexes()
    prompts = [prompt(user(words(name)), user("question")) for name in "abc"]
    assert planned(indexes, *prompts) == {()}
    assert planned(indexes, *prompts) == {()}, "a second request for each, whose answer comes after the first"
    assert planned(indexes, *prompts * 6) == {at((1, 0))}
    assert planned(indexes, *prompts) == {at((1, 0))}, "it reads what the samples wrote"


def test_what_runs_ask_at_the_same_time_counts_together():
    found = PrefixIndex(CLAUDE)
    alone = prompt(user(words("a")), user("question"))
    for _ in range(2):
        for run in (1, 2):
            found.add([alone], run=run)
    assert found.breakpoints(alone) == at((1, 0))


def test_prompts_that_come_again_do_not_move_breakpoints():
    """In a second run of the same prompts nothing is shared by more of them than in the first."""
    indexes = PrefixIndexes()
    prompts = [prompt(user(words("a")), user(f"question {number}")) for number in range(3)]
    for _ in range(3):
        assert planned(indexes, *prompts) == {at((0, 0))}
