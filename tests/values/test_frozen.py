"""Prompts cannot change, and copies of them are as good as the original."""

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from operator import attrgetter, iadd, ior

import msgspec
import pytest

from lm_deluge.errors import PromptError
from lm_deluge.prompt import Conversation, Image, Message, ProviderBlock, Text, Thinking, ToolCall, ToolResult

from . import samples

VALUES = [
    Conversation.user("a"),
    Message.user("a"),
    Text("a"),
    Image.of(samples.png()),
    ToolCall("1", "f", {"a": 1}),
    ToolResult("1", "a"),
    Thinking("a"),
    ProviderBlock("anthropic", {"a": 1}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_no_attribute_can_be_set_or_deleted(value):
    for name in value.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(value, name, None)
        with pytest.raises(AttributeError):
            delattr(value, name)
    with pytest.raises(AttributeError):
        value.another = 1


def test_a_known_digest_cannot_be_set():
    conversation = Conversation.user("a")
    before = conversation.digest
    for name in ("digest", "_digest", "fingerprint"):
        with pytest.raises(AttributeError):
            setattr(conversation, name, b"x")
    assert conversation.digest == before


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.__setitem__("new", 1),
        lambda d: d.__delitem__("list"),
        lambda d: d.clear(),
        lambda d: d.pop("list"),
        lambda d: d.popitem(),
        lambda d: d.setdefault("new", 1),
        lambda d: d.update(new=1),
        lambda d: ior(d, {"new": 1}),
        lambda d: d["list"].__setitem__(0, 9),
        lambda d: d["list"].__delitem__(0),
        lambda d: d["list"].append(9),
        lambda d: d["list"].extend([9]),
        lambda d: d["list"].insert(0, 9),
        lambda d: d["list"].pop(),
        lambda d: d["list"].remove(1),
        lambda d: d["list"].clear(),
        lambda d: d["list"].reverse(),
        lambda d: d["list"].sort(),
        lambda d: iadd(d["list"], [9]),
        lambda d: d["list"].__imul__(2),
        lambda d: d["list"][1].update(x=9),
    ],
)
def test_arguments_cannot_be_changed(change):
    arguments = ToolCall("1", "f", {"list": [1, {"x": 1}]}).arguments
    with pytest.raises(TypeError, match="deepcopy"):
        change(arguments)
    assert arguments == {"list": [1, {"x": 1}]}


@pytest.mark.parametrize(
    "build",
    [
        lambda data: ToolCall("1", "f", data).arguments,
        lambda data: Message.ai().with_tool_call("1", "f", data).tool_calls[0].arguments,
        lambda data: ProviderBlock("anthropic", data).block,
    ],
)
def test_what_was_given_can_be_changed_without_effect(build):
    data = {"list": [1, {"x": 1}], "y": {}}
    held = build(data)
    data["list"][1]["x"] = data["y"]["z"] = 2
    data["list"].append(3)
    data["new"] = 4
    assert held == {"list": [1, {"x": 1}], "y": {}}


def test_lists_and_buffers_that_were_given_can_be_changed_without_effect():
    parts, messages, content = [Text("a")], [Message.user("a")], bytearray(samples.png())
    message, conversation, result = Message("user", parts), Conversation(messages), ToolResult("1", parts)
    images = [Image.of(content), Image(data=content)]
    parts.clear()
    messages.clear()
    content[-1] ^= 1
    assert message == Message.user("a")
    assert conversation == Conversation.user("a")
    assert result.result == (Text("a"),)
    assert all(image.data == samples.png() and type(image.data) is bytes for image in images)


def test_deepcopy_of_arguments_is_an_ordinary_dict():
    arguments = ToolCall("1", "f", {"list": [1, {"x": 1}]}).arguments
    copied = copy.deepcopy(arguments)
    assert type(copied) is dict
    assert type(copied["list"]) is list
    copied["list"][1]["x"] = 2
    copied["list"].append(3)
    assert arguments == {"list": [1, {"x": 1}]}
    shallow = copy.copy(arguments)
    shallow["new"] = 1
    assert "new" not in arguments


@pytest.mark.parametrize("name", samples.golden())
@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda value, p=protocol: pickle.loads(pickle.dumps(value, p)) for protocol in (2, pickle.HIGHEST_PROTOCOL)),
    ],
    ids=["copy", "deepcopy", "pickle 2", "pickle"],
)
def test_copies_are_equal_and_as_frozen(name, duplicate):
    conversation = samples.golden()[name]
    _ = conversation.digest
    copied = duplicate(conversation)
    assert copied == conversation
    assert hash(copied) == hash(conversation)
    assert copied.user("more") == conversation.user("more")
    assert copied.to_log() == conversation.to_log()
    for message in copied.messages:
        for call in message.tool_calls:
            with pytest.raises(TypeError):
                call.arguments["new"] = 1


def test_a_changed_copy_has_its_own_digest():
    conversation, image = Conversation.user("a"), Image.of(samples.png())
    assert conversation.digest
    assert image.digest
    other = msgspec.structs.replace(conversation, messages=(Message.user("b"),))
    assert other.digest == Conversation.user("b").digest
    assert msgspec.structs.replace(image, data=samples.JPEG, media_type=None).digest == Image.of(samples.JPEG).digest


def test_prompts_can_be_sent_to_other_processes():
    prompts = list(samples.golden().values())
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(attrgetter("fingerprint"), prompts)) == [prompt.fingerprint for prompt in prompts]


class TestValidation:
    """What is no prompt is refused where it is written, not when a batch runs."""

    @pytest.mark.parametrize("text", [5, None, b"a", float("nan"), ["a"]])
    def test_text_is_a_string(self, text):
        with pytest.raises(TypeError, match="takes a string"):
            Text(text)

    def test_parts_are_parts(self):
        for parts in ("hello", ["hello"], ("hello",), [Text("a"), {"type": "text"}], [Message.user("a")]):
            with pytest.raises(TypeError, match="holds parts"):
                Message("user", parts)

    def test_messages_are_messages(self):
        for messages in ("hello", ["hello"], [{"role": "user"}], (Text("a"),)):
            with pytest.raises(TypeError, match=r"Message\.user"):
                Conversation(messages)
        with pytest.raises(TypeError, match=r"Message\.user"):
            Conversation.user("a").add("b")

    @pytest.mark.parametrize("role", ["User", "developer", "", None, 5])
    def test_roles_are_known(self, role):
        with pytest.raises(PromptError, match="system, user, assistant, tool"):
            Message(role)

    @pytest.mark.parametrize("arguments", [[1], 5, None, "text"])
    def test_arguments_are_an_object(self, arguments):
        with pytest.raises(PromptError, match="JSON object"):
            ToolCall("1", "f", arguments)
        with pytest.raises(PromptError, match="JSON object"):
            ProviderBlock("anthropic", arguments)

    @pytest.mark.parametrize("result", [5, None, ["a"], [Thinking("a")], b"a", {"a": 1}])
    def test_results_are_text_or_parts(self, result):
        with pytest.raises(PromptError, match=r"ToolResult\.of"):
            ToolResult("1", result)
