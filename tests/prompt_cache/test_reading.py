"""Prompts in the order in which providers read them, and digests that are the same however they were come by."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_deluge.models import resolve
from lm_deluge.prompt import Conversation, Image, Message, ProviderBlock, Text, Thinking, ToolCall, ToolResult
from lm_deluge.prompt_cache.reading import Reader
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
