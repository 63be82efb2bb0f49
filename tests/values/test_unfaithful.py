"""What has no faithful canonical form is refused, with an error that a batch turns into one error response."""

import enum
import json

import pytest

from lm_deluge.canonical import encode
from lm_deluge.errors import MediaError, PromptError
from lm_deluge.prompt import (
    Conversation,
    File,
    Message,
    ProviderBlock,
    ToolCall,
    ToolResult,
    as_conversation,
)


def of(*parts, role="user"):
    return Conversation((Message(role, parts),))


def call(arguments):
    return of(ToolCall("1", "f", arguments), role="assistant")


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\udc80" * 5])
def test_lone_surrogates_in_text(text):
    for conversation in (as_conversation(text), call({"a": text}), call({text: 1}), of(File(url=text))):
        with pytest.raises(PromptError, match="valid Unicode"):
            _ = conversation.digest
        assert conversation.count_tokens() > 0


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        b"bytes",
        bytearray(b"bytes"),
        memoryview(b"bytes"),
        {1, 2},
        object(),
        2**64,
        -(2**63) - 1,
        10**5000,
        {(1, 2): 3},
        {1: "a", "1": "b"},
        {None: 1, "null": 2},
        {float("nan"): 1},
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_values_without_a_faithful_json_form(value):
    for build in (
        lambda: ToolCall("1", "f", {"a": value}),
        lambda: ToolCall("1", "f", {"deep": [{"a": value}]}),
        lambda: Message.ai().with_tool_call("1", "f", {"a": value}),
        lambda: ProviderBlock("anthropic", {"a": value}),
        lambda: ToolResult.of("1", {"a": value}),
        lambda: Conversation().with_tool_result("1", [value]),
    ):
        with pytest.raises(PromptError):
            build()


def test_data_that_contain_themselves_or_are_too_deep():
    loop: dict = {}
    loop["self"] = loop
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in (loop, {"a": deep}):
        with pytest.raises(PromptError, match="levels deep"):
            ToolCall("1", "f", value)
        with pytest.raises(PromptError, match="levels deep"):
            ToolResult.of("1", value)


def test_ninety_levels_are_fine():
    value: object = "x"
    for _ in range(90):
        value = [value]
    assert call({"a": value}).digest == Conversation.from_log(call({"a": value}).to_log()).digest


def test_keys_of_objects_are_written_as_json_writes_them():
    given = {1: "a", False: "b", None: "c", 1.5: "d"}
    assert call(given) == call(json.loads(json.dumps(given)))


def test_subclasses_of_plain_types_are_their_plain_values():
    class Color(enum.StrEnum):
        RED = "red"

    class Words(str):
        __slots__ = ()

    class Number(int):
        pass

    class Real(float):
        pass

    assert call({"a": [Color.RED, Number(5), Real(1.5)], Words("b"): Words("c")}) == call(
        {"a": ["red", 5, 1.5], "b": "c"}
    )
    assert as_conversation(Words("hi")) == as_conversation("hi")
    assert type(as_conversation(Words("hi")).messages[0].parts[0].text) is str
    assert of(ToolResult("1", Words("hi"))) == of(ToolResult("1", "hi"))


def test_encode_names_what_it_cannot_write():
    with pytest.raises(PromptError, match="complex"):
        encode([1j])


def test_media_that_cannot_be_read_have_no_key(tmp_path):
    conversation = Conversation.user(image=tmp_path / "missing.png").user("go on")
    for _ in range(2):
        with pytest.raises(MediaError, match="does not exist"):
            _ = conversation.digest
