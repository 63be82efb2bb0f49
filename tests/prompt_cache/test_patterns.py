"""Where the documented patterns put their breakpoints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_deluge.errors import ConfigError
from lm_deluge.prompt import Conversation, File, Image, Message, ProviderBlock, Text, Thinking, ToolCall, ToolResult
from lm_deluge.prompt_cache import PATTERNS, check_pattern
from lm_deluge.prompt_cache.patterns import ROWS
from lm_deluge.request import Breakpoint
from lm_deluge.tool import Tool

TOOLS = (Tool(name="a"), Tool(name="b"), Tool(name="c"))
IMAGE, FILE = Image(url="https://a/a.png"), File(url="https://a/a.pdf")
CALL, RESULT = ToolCall("1", "f"), ToolResult("1", "r")
THINKING, BLOCK = Thinking("hm", "c2ln"), ProviderBlock("anthropic", {"type": "server_tool_use"})


def system(*parts):
    return Message("system", parts or (Text("s"),))


def user(*parts):
    return Message("user", parts or (Text("u"),))


def ai(*parts):
    return Message("assistant", parts or (Text("a"),))


def tool(*parts):
    return Message("tool", parts or (RESULT,))


def plan(pattern, conversation, tools=()):
    return tuple(ROWS[check_pattern(pattern)].places(conversation, tools))


def at(*places):
    return tuple(Breakpoint("messages", *place) for place in places)


LAST_TOOL = (Breakpoint("tools", 2),)
TEN = [Text(str(number)) for number in range(10)]

TABLE = [
    # system_and_tools: the last block of the last system message, which is read after the tools
    ("system_and_tools", [system(), user()], at((0, 0))),
    ("system_and_tools", [system(Text("s"), Text("t")), user()], at((0, 1))),
    ("system_and_tools", [system(), user(), ai(), user()], at((0, 0))),
    ("system_and_tools", [system(), system(), user()], at((1, 0))),
    ("system_and_tools", [system(), user(), system(), user()], at((2, 0))),
    ("system_and_tools", [system(Text("s"), Text(""), Text(" \n")), user()], at((0, 0))),
    ("system_and_tools", [system(), system(Text("")), user()], at((0, 0))),
    ("system_and_tools", [user(), ai(), user()], LAST_TOOL),
    ("system_and_tools", [system(Text("")), user()], LAST_TOOL),
    ("system_and_tools", [Message("system"), user()], LAST_TOOL),
    ("system_and_tools", [], LAST_TOOL),
    # tools_only
    ("tools_only", [system(), user()], LAST_TOOL),
    ("tools_only", [], LAST_TOOL),
    # last_user_message: the last block that may carry a breakpoint
    ("last_user_message", [user()], at((0, 0))),
    ("last_user_message", [system(), user(), ai(), user()], at((3, 0))),
    ("last_user_message", [user(), ai()], at((0, 0))),
    ("last_user_message", [user(Text("u"), IMAGE)], at((0, 1))),
    ("last_user_message", [user(Text("u"), FILE)], at((0, 1))),
    ("last_user_message", [user(Text("u"), Text(""), Text("\t"))], at((0, 0))),
    ("last_user_message", [user(Text("u"), THINKING, BLOCK)], at((0, 0))),
    ("last_user_message", [user(Text("u"), BLOCK, Text("v"), BLOCK)], at((0, 2))),
    ("last_user_message", [system(), ai()], ()),
    ("last_user_message", [user(Text(""))], ()),
    ("last_user_message", [user(), ai(), user(Text(""))], at((0, 0))),
    ("last_user_message", [Message("user")], ()),
    ("last_user_message", [], ()),
    # ... in an agent turn, what it gave back so far
    ("last_user_message", [user(), ai(CALL), tool()], at((2, 0))),
    ("last_user_message", [user(), ai(CALL), tool(RESULT, RESULT), ai()], at((2, 1))),
    ("last_user_message", [user(), ai(CALL), user(RESULT), ai(CALL), user(RESULT)], at((4, 0))),
    ("last_user_message", [user(), ai(CALL), tool(), user()], at((3, 0))),
    ("last_user_message", [user(), ai(CALL), user(RESULT, Text("u"))], at((2, 1))),
    # several
    ("last_2_user_messages", [user(), ai(), user()], at((0, 0), (2, 0))),
    ("last_2_user_messages", [user(), user(), user()], at((1, 0), (2, 0))),
    ("last_2_user_messages", [user()], at((0, 0))),
    ("last_2_user_messages", [user(), ai(), user(Text("")), ai(), user()], at((0, 0), (4, 0))),
    ("last_2_user_messages", [user(), ai(CALL), tool()], at((0, 0), (2, 0))),
    ("last_2_user_messages", [user(), ai(CALL), tool(), ai(CALL), tool(), ai(CALL), tool()], at((0, 0), (6, 0))),
    ("last_2_user_messages", [user(), ai(CALL), tool(), ai(), user()], at((2, 0), (4, 0))),
    ("last_2_user_messages", [user(), ai(), user(), ai(CALL), tool(), ai(CALL), tool()], at((2, 0), (6, 0))),
    ("last_2_user_messages", [user(), ai(CALL), user(RESULT), ai(CALL), user(RESULT)], at((0, 0), (4, 0))),
    ("last_3_user_messages", [user(), ai(), user(), ai(), user(), ai(), user()], at((2, 0), (4, 0), (6, 0))),
    ("last_3_user_messages", [user(), ai(), user()], at((0, 0), (2, 0))),
    ("last_3_user_messages", [user(), ai(CALL), tool(), ai(CALL), tool(), ai(), user()], at((0, 0), (4, 0), (6, 0))),
    ("last_3_user_messages", [system(), ai()], ()),
    # conversation: the system text, where the request before ended, and where this one does
    ("conversation", [system(), user()], at((0, 0), (1, 0))),
    ("conversation", [user()], (*LAST_TOOL, *at((0, 0)))),
    ("conversation", [system(), user(), ai(), user()], at((0, 0), (1, 0), (3, 0))),
    ("conversation", [system(), user(), ai(), user(), ai()], at((0, 0), (1, 0), (3, 0))),
    ("conversation", [system(), user(), user(Text("v")), ai(), user()], at((0, 0), (2, 0), (4, 0))),
    ("conversation", [system(), user(), ai(), user(Text("")), ai(), user()], at((0, 0), (1, 0), (5, 0))),
    ("conversation", [system(), user(), ai(CALL), tool(RESULT, RESULT)], at((0, 0), (1, 0), (3, 1))),
    ("conversation", [system(), user(), ai(CALL), tool(), ai(CALL), tool()], at((0, 0), (3, 0), (5, 0))),
    ("conversation", [system(), user(), ai(CALL), tool(), user(), ai(), user()], at((0, 0), (4, 0), (6, 0))),
    # ... with a spare one where looking back from there does not reach the one before
    ("conversation", [user(), ai(*TEN), user(*TEN), ai(), user()], (*LAST_TOOL, *at((0, 0), (2, 9), (4, 0)))),
    ("conversation", [user(), ai(*TEN), user(*TEN[1:]), ai(), user()], (*LAST_TOOL, *at((2, 8), (4, 0)))),
    (
        "conversation",
        [user(), ai(*[CALL] * 25), tool(*[RESULT] * 25), ai(), user()],
        (*LAST_TOOL, *at((2, 24), (4, 0))),
    ),
    # shared_prefix of one prompt alone
    ("shared_prefix", [system(), user()], at((0, 0))),
    ("shared_prefix", [user()], LAST_TOOL),
    # automatic is the provider's own affair
    ("automatic", [system(), user()], ()),
]


@pytest.mark.parametrize(("pattern", "messages", "expected"), TABLE)
def test_the_table(pattern, messages, expected):
    assert plan(pattern, Conversation(messages), TOOLS) == expected


@pytest.mark.parametrize("pattern", ["system_and_tools", "tools_only"])
def test_without_tools_there_is_no_place(pattern):
    assert plan(pattern, Conversation.user("u")) == ()
    assert plan(pattern, Conversation.user("u"), ()) == ()


def test_the_documented_patterns_are_known():
    documented = "system_and_tools tools_only last_user_message last_2_user_messages last_3_user_messages"
    assert set(documented.split()) <= set(PATTERNS)
    for pattern in PATTERNS:
        assert check_pattern(pattern) == pattern
    assert check_pattern(None) is None


def test_every_pattern_has_a_row():
    assert tuple(ROWS) == PATTERNS


@pytest.mark.parametrize(
    "pattern", ["", "system", "System_And_Tools", "last_4_user_messages", 5, object(), ["tools_only"]]
)
def test_an_unknown_pattern_is_refused_with_those_that_exist(pattern):
    for use in (lambda: check_pattern(pattern), lambda: plan(pattern, Conversation.user("u"), TOOLS)):
        with pytest.raises(ConfigError) as caught:
            use()
        assert all(known in str(caught.value) for known in PATTERNS)
        assert "not a prompt cache pattern" in str(caught.value)


parts = st.sampled_from(
    [Text("a"), Text(""), Text(" "), IMAGE, FILE, CALL, RESULT, ToolResult("1", (Text("x"),)), THINKING, BLOCK]
)
messages = st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), st.lists(parts, max_size=3))
conversations = st.lists(messages, max_size=8).map(Conversation)
patterns = st.sampled_from(PATTERNS)
tools = st.sampled_from([(), TOOLS[:1], TOOLS])
answers = st.builds(Message, st.just("assistant"), st.lists(st.sampled_from([Text("a"), CALL, THINKING]), max_size=3))


@given(patterns, conversations, tools)
def test_breakpoints_are_few_ordered_and_on_parts_that_may_carry_one(pattern, conversation, tools):
    breakpoints = plan(pattern, conversation, tools)
    assert len(breakpoints) <= 4
    assert len(set(breakpoints)) == len(breakpoints)

    def in_order(point):
        is_said = point.section == "messages" and conversation.messages[point.index].role != "system"
        return point.section == "messages", is_said, point.index, point.part

    assert list(breakpoints) == sorted(breakpoints, key=in_order)
    for point in breakpoints:
        assert point.ttl is None
        if point.section == "tools":
            assert (point.index, point.part) == (len(tools) - 1, 0)
            continue
        message = conversation.messages[point.index]
        part = message.parts[point.part]
        assert not isinstance(part, (Thinking, ProviderBlock))
        assert not (isinstance(part, Text) and not part.text.strip())
        assert message.role != "assistant"
        if pattern != "conversation":
            assert (message.role == "system") == (pattern in ("system_and_tools", "shared_prefix"))


@given(conversations, st.lists(messages.filter(lambda message: message.role != "system"), max_size=4), tools)
def test_breakpoints_on_the_fixed_part_stay_when_the_history_grows(conversation, later, tools):
    longer = Conversation((*conversation.messages, *later))
    for pattern in ("system_and_tools", "tools_only", "shared_prefix"):
        assert plan(pattern, longer, tools) == plan(pattern, conversation, tools)


@given(conversations, st.lists(answers, max_size=2))
def test_what_the_model_says_moves_no_breakpoint(conversation, said):
    longer = Conversation((*conversation.messages, *said))
    for pattern in PATTERNS:
        assert plan(pattern, longer, TOOLS) == plan(pattern, conversation, TOOLS)


@given(conversations)
def test_the_next_turn_finds_the_breakpoints_of_the_one_before(conversation):
    """A provider reads where the request before wrote: those breakpoints stay among those of the next turn."""
    longer = conversation.ai("answer").user("next question")
    new = Breakpoint("messages", len(longer.messages) - 1, 0)
    assert plan("last_user_message", longer) == (new,)
    assert plan("last_2_user_messages", longer) == (*plan("last_user_message", conversation), new)
    assert plan("last_3_user_messages", longer) == (*plan("last_2_user_messages", conversation), new)


turns = st.lists(st.sampled_from([Text("a"), CALL, RESULT, THINKING, BLOCK, Text("")]), min_size=1, max_size=30)


@given(conversations, st.lists(st.tuples(turns, turns), min_size=1, max_size=4))
def test_each_turn_of_a_conversation_has_a_breakpoint_where_the_one_before_ended(conversation, rounds):
    conversation = conversation.user("first")
    for said, given_back in rounds:
        last = plan("conversation", conversation)[-1]
        assert last.index == len(conversation.messages) - 1 or last.index > 0
        conversation = conversation.add(Message("assistant", said)).add(Message("user", (*given_back, Text("next"))))
        breakpoints = plan("conversation", conversation)
        assert len(breakpoints) <= 4
        assert last in breakpoints[-3:], "what the last turn wrote has a breakpoint"
        assert breakpoints[-1] == Breakpoint("messages", len(conversation.messages) - 1, len(given_back))
