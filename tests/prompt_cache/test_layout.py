"""Prompts in the order in which providers read them, and digests that are the same however they were come by."""

import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_deluge.models import resolve
from lm_deluge.prompt import Conversation, Image, Message, ProviderBlock, Text, Thinking, ToolCall, ToolResult
from lm_deluge.prompt_cache import layout, trunks
from lm_deluge.prompt_cache.layout import Reader
from lm_deluge.tool import Tool

CLAUDE = resolve("claude-sonnet-4-5", environ={})
GPT = resolve("gpt-6.1-sol", environ={})

MESSAGES = [
    Message.system("S"),
    Message.user("Go"),
    Message("assistant", (Thinking("hm", "sig"), Thinking("unsigned"), Text("x"), ToolCall("1", "f"))),
    Message("user", (Text(" "), Text("Now"), ToolResult("1", "r"))),
    Message.system("T"),
    Message("user", (ProviderBlock("anthropic", {"type": "a"}), ProviderBlock("elsewhere"), Text("end"))),
]


@pytest.mark.parametrize(
    ("model", "places"),
    [
        # System text first, results before the words of their turn, nothing that is not sent.
        (CLAUDE, [(0, 0), (4, 0), (1, 0), (2, 0), (2, 2), (2, 3), (3, 2), (3, 1), (5, 0), (5, 2)]),
        (GPT, [(0, 0), (1, 0), (2, 2), (2, 3), (3, 2), (3, 0), (3, 1), (4, 0), (5, 2)]),
    ],
)
def test_the_order(model, places):
    blocks = list(Reader(model, [Tool(name="f")]).blocks(Conversation(MESSAGES)))
    assert [block.place for block in blocks] == [("tools", 0, 0), *(("messages", *place) for place in places)]


def digests(model, *messages):
    return [link.digest for link in Reader(model).chain(Conversation(messages))]


def test_messages_of_one_side_are_joined_where_the_provider_joins_them():
    together, apart = [Message("user", (Text("a"), Text("b")))], [Message.user("a"), Message.user("b")]
    assert digests(CLAUDE, *together) == digests(CLAUDE, *apart)
    one, two = digests(GPT, *together), digests(GPT, *apart)
    assert one[0] == two[0]
    assert one[1] != two[1]


def test_an_image_anywhere_separates_the_messages_but_not_the_system_text():
    image = Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png")
    for last in (Message("user", (image,)), Message("tool", (ToolResult("1", (image,)),))):
        plain = digests(CLAUDE, *MESSAGES[:3], Message.user("x"))
        shown = digests(CLAUDE, *MESSAGES[:3], last)
        assert plain[0] == shown[0]
        assert set(plain[1:]).isdisjoint(shown[1:])
        assert digests(GPT, *MESSAGES[:3], last)[:4] == digests(GPT, *MESSAGES[:3])


image = Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png")
pool = [
    *MESSAGES,
    Message("user", (image,)),
    Message.user(""),
    Message.user("long " * 100),
    Message.ai("A"),
    Message.ai("B"),
]
batches = st.lists(st.lists(st.sampled_from(pool), max_size=7).map(Conversation), min_size=1, max_size=12)


@given(batches, st.sampled_from([CLAUDE, GPT]))
def test_what_is_remembered_changes_nothing(batch, model):
    """One reader for all, where messages come again and again, against a new one for each prompt."""
    reader = Reader(model)
    for conversation in batch:
        fresh = list(Reader(model).chain(Conversation.from_log(conversation.to_log())))
        assert list(reader.chain(conversation)) == fresh
        assert [link.block for link in fresh] == list(reader.blocks(conversation))


@given(batches, st.sampled_from([CLAUDE, GPT]))
def test_digests_are_equal_where_what_was_read_is(batch, model):
    seen: dict[bytes, list] = {}
    for conversation in batch:
        links = list(Reader(model).chain(conversation))
        for end, link in enumerate(links, start=1):
            read = [(each.block.role, each.block.value) for each in links[:end]]
            assert seen.setdefault(link.digest, read) == read
        assert all(one.digest != two.digest for one, two in itertools.pairwise(links))


turns = [
    Message.user("a"),
    Message.user("b " * 200),
    Message("user", (Text(" "), Text("Now"), ToolResult("1", "r" * 300))),
    Message("tool", (ToolResult("1", "r"), ToolResult("2", "r" * 300, is_error=True))),
    Message("user", (Text("x"), image)),
    Message.ai("A"),
    Message.ai(""),
    Message("assistant", (Thinking("hm", "sig"), Text("x"), ToolCall("1", "f"))),
    Message.system("late"),
]
stems = st.lists(st.sampled_from(turns[:-1]), min_size=14, max_size=40).map(lambda stem: [Message.system("S"), *stem])
tails = st.lists(st.sampled_from(turns), max_size=4)


@given(st.lists(stems, min_size=1, max_size=2), st.lists(tails, min_size=3, max_size=8), st.sampled_from([CLAUDE, GPT]))
def test_what_is_remembered_of_long_prompts_changes_nothing(stems, tails, model):
    reader = Reader(model)
    for number, tail in enumerate(tails):
        stem = stems[number % len(stems)]
        conversation = Conversation([*stem[: len(stem) - number % 3], *tail])
        fresh = list(Reader(model).chain(conversation))
        assert list(reader.chain(conversation)) == fresh
        assert reader.digests(conversation) == [link.digest for link in fresh]
        assert list(reader.blocks(conversation)) == [link.block for link in fresh]


def long_talk(turns: int = 50) -> Conversation:
    talk = Conversation.system("S")
    for number in range(turns):
        talk = talk.user(f"question {number} " * 20).ai(f"answer {number}")
    return talk


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_messages_that_prompts_have_in_common_are_read_once(model, monkeypatch):
    read: list[bytes] = []
    monkeypatch.setattr(layout, "digest_of", lambda data: read.append(data) or trunks.digest_of(data))
    reader = Reader(model)
    talk = long_talk()
    groups = [talk, talk.user("Look at this").ai("Yes")]
    prompts = [groups[number % 2].user(f"{number}") for number in range(20)]
    for prompt in prompts[:6]:
        reader.digests(prompt)
    read.clear()
    for prompt in prompts[6:]:
        list(reader.chain(prompt))
    assert len(read) == 14

    read.clear()
    for number in range(20):  # and a conversation that goes on
        talk = talk.user(f"more {number}")
        list(reader.chain(talk))
        talk = talk.ai("...")
    assert len(read) < 20 * 4 + len(talk.messages)


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_a_long_text_is_hashed_once_and_whatever_object_holds_it(model, monkeypatch):
    hashed: list[bytes] = []
    monkeypatch.setattr(trunks, "digest_of", lambda data: hashed.append(data) or layout.digest_of(data))
    reader = Reader(model)
    for number in range(10):
        text = "".join(["long "] * 20_000)  # another object each time
        parts = Message("user", (Text(text), Text(f"question {number}"))), Message("tool", (ToolResult("1", text),))
        for _ in range(3):
            list(reader.chain(Conversation(parts)))
    assert len(hashed) == 1


def references(values: list) -> list[int]:
    return [sys.getrefcount(value) for value in values]


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_nothing_of_a_prompt_alone_is_kept_alive(model):
    reader = Reader(model)
    shared = Message.system("long " * 1_000)
    talk = long_talk()
    for start in (Conversation([shared]), talk):
        own = [f"{number} " + "own " * 1_000 for number in range(30)]
        before = references(own)
        for text in own:
            prompt = start.user(text)
            for _ in range(3):
                list(reader.chain(prompt))
        del prompt, text
        assert references(own) == before


def test_what_is_held_has_a_limit():
    """Pairs of prompts, each with a long text in common, and pictures that weigh more than their tokens."""
    reader = Reader(CLAUDE)
    picture = Image(data=b"\x89PNG\r\n\x1a\n" + bytes(500_000), media_type="image/png")
    shared = [Message("user", (Text(f"{number} " + "long " * 100_000), picture)) for number in range(20)]
    before = references(shared)
    for message in shared:
        talk = Conversation([Message.system("S"), message, *long_talk().messages[2:]])
        for number in range(3):
            list(reader.chain(talk.user(f"{number}")))
    del talk, message
    held = [now > then for now, then in zip(references(shared), before, strict=True)]
    assert held == 17 * [False] + 3 * [True]  # a megabyte each
