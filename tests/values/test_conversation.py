"""Building conversations and reading them."""

import pytest
from hypothesis import given

from lm_deluge.errors import PromptError
from lm_deluge.prompt import Conversation, File, Image, Message, Text, Thinking, ToolCall, ToolResult
from lm_deluge.response import APIResponse

from . import samples
from . import strategies as some


@pytest.mark.parametrize(("build", "role"), [("system", "system"), ("user", "user"), ("ai", "assistant")])
def test_builders_work_on_the_class_and_on_an_instance(build, role):
    on_class = getattr(Conversation, build)("a")
    on_instance = getattr(Conversation(), build)("a")
    assert on_class == on_instance == Conversation((Message(role, (Text("a"),)),))
    base = Conversation.user("before")
    assert getattr(base, build)("a").messages == (*base.messages, Message(role, (Text("a"),)))
    assert base == Conversation.user("before")
    assert getattr(Conversation, build)().messages == (Message(role),)
    assert on_class.messages[0] == getattr(Message, build)("a")


@pytest.mark.parametrize("build", ["system", "user", "ai"])
def test_builders_take_an_image_and_a_file(build):
    (message,) = getattr(Conversation, build)("a", image=samples.png(), file=samples.PDF).messages
    assert message.parts == (Text("a"), Image.of(samples.png()), File.of(samples.PDF))
    given = Image.of(samples.png(), detail="low")
    assert getattr(Conversation, build)(image=given).messages[0].parts == (given,)


def test_a_subclass_stays_itself():
    class Mine(Conversation, frozen=True):
        pass

    conversation = Mine.user("a").ai("b").with_tool_result("1", "c").with_tool_result("2", "d")
    assert type(conversation) is Mine
    assert conversation == Conversation.user("a").ai("b").with_tool_results([("1", "c"), ("2", "d")])


def test_nothing_changes_in_place():
    base = Conversation.user("a")
    grown = [
        base.add(Message.user("b")),
        base.with_message(Message.user("b")),
        base.system("b"),
        base.user("b"),
        base.ai("b"),
        base.with_tool_result("1", "b"),
        base.with_response(APIResponse(content=Message.ai("b"))),
    ]
    assert all(len(each.messages) == 2 for each in grown)
    assert grown[0] == grown[1] == grown[3]
    assert base == Conversation.user("a")
    message = Message.user("a")
    for longer in (message.with_text("b"), message.with_image(samples.png()), message.with_thinking("b")):
        assert len(longer.parts) == 2
    assert message == Message.user("a")


class TestToolResults:
    def test_results_that_follow_each_other_share_a_message(self):
        asked = Conversation.user("?").add(Message.ai().with_tool_call("1", "f", {}).with_tool_call("2", "f", "{}"))
        one = asked.with_tool_result("1", "a")
        both = one.with_tool_result("2", "b", is_error=True)
        assert both.messages[-1] == Message("tool", (ToolResult("1", "a"), ToolResult("2", "b", True)))
        assert len(both.messages) == len(one.messages) == 3
        assert one.messages[-1] == Message("tool", (ToolResult("1", "a"),))
        assert both == Conversation(both.messages)
        assert asked.with_tool_results([("1", "a"), ("2", "b")]) == one.with_tool_result("2", "b")

    def test_results_of_different_turns_do_not(self):
        conversation = Conversation().with_tool_result("1", "a").ai("next").with_tool_result("2", "b")
        assert [message.role for message in conversation.messages] == ["tool", "assistant", "tool"]

    def test_a_digest_known_before_does_not_stay(self):
        one = Conversation.user("?").with_tool_result("1", "a")
        known = one.digest
        both = one.with_tool_result("2", "b")
        assert both.digest != known
        assert both.digest == Conversation(both.messages).digest

    @pytest.mark.parametrize(
        ("result", "held"),
        [
            ("text", "text"),
            ("", ""),
            (None, "null"),
            (5, "5"),
            (2.5, "2.5"),
            (True, "true"),
            ([], "[]"),
            ((1, "a"), '[1,"a"]'),
            ({"b": 1, "a": "ü"}, '{"a":"ü","b":1}'),
            (Text("a"), (Text("a"),)),
            ([Text("a"), Image(url="https://a/")], (Text("a"), Image(url="https://a/"))),
        ],
    )
    def test_results_are_text_parts_or_json(self, result, held):
        assert ToolResult.of("1", result).result == held
        assert Conversation().with_tool_result("1", result).messages[0].parts == (ToolResult("1", held),)
        assert Message("tool").with_tool_result("1", result).tool_results == [ToolResult("1", held)]


class TestResponses:
    def test_the_answer_is_added_whole(self):
        answer = Message("assistant", (Thinking("hm", "c2ln"), Text("4"), ToolCall("1", "f")))
        assert Conversation.user("?").with_response(APIResponse(content=answer)).messages[-1] is answer

    def test_an_error_has_no_answer_to_add(self):
        with pytest.raises(PromptError, match="error_message"):
            Conversation.user("?").with_response(APIResponse(is_error=True, error_message="It failed."))


def test_what_a_message_holds():
    call, result, thought = ToolCall("1", "f", {"a": 1}), ToolResult("1", (Image.of(samples.png()),)), Thinking("hm")
    image, file = Image.of(samples.JPEG), File.of(samples.PDF)
    message = Message("user", [Text("a"), image, thought, call, file, Text("b"), result])
    assert message.completion == "ab"
    assert message.text_parts == [Text("a"), Text("b")]
    assert (message.images, message.files, message.tool_calls) == ([image], [file], [call])
    assert (message.tool_results, message.thinking_parts) == ([result], [thought])
    assert message.media == [image, file, Image.of(samples.png())]
    assert Message.ai().completion is None
    assert Message.ai("").completion == ""


class TestTokens:
    @given(some.conversations, some.messages)
    def test_more_messages_are_more_tokens(self, conversation, message):
        assert conversation.add(message).count_tokens() >= conversation.count_tokens() + 4

    def test_the_number_is_near_what_tokenizers_say(self):
        text = "Janet's ducks lay sixteen eggs per day. She eats three for breakfast every morning."  # 19 to 22 tokens
        assert 15 <= Conversation.user(text).count_tokens() <= 30
        assert 20_000 <= Conversation.user("word " * 20_000).count_tokens() <= 30_000
        assert Conversation.user("漢字" * 100).count_tokens() >= 150, "bytes count, not characters"

    def test_everything_that_is_sent_counts(self):
        empty = Conversation.ai("").count_tokens()
        for message in (
            Message.ai("a" * 400),
            Message.ai().with_thinking("a" * 400),
            Message.ai().with_tool_call("1", "f", {"a": "a" * 400}),
            Message("tool").with_tool_result("1", "a" * 400),
            Message("tool").with_tool_result("1", [Text("a" * 400)]),
        ):
            assert Conversation((message,)).count_tokens() >= empty + 100

    def test_media_and_the_answer_count(self):
        bare = Conversation.user("?").count_tokens()
        assert Conversation.user("?", image=samples.png()).count_tokens(img_tokens=1000) == bare + 1000
        assert Conversation.user("?", image="https://a/").count_tokens(img_tokens=1000) == bare + 1000
        assert (
            Conversation.user("?", file=b"a" * 20_480).count_tokens() > Conversation.user("?", file=b"a").count_tokens()
        )
        assert Conversation.user("?").count_tokens(max_new_tokens=500) == bare + 500
        inside = Conversation().with_tool_result("1", [Image.of(samples.png())])
        assert inside.count_tokens(img_tokens=1000) > 1000
