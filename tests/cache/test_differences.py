"""What differs between two requests is named exactly, shown visibly, and nothing else is."""

import ast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge.cache.explain.differences import Difference, differences, escaped, parameter_differences, quoted
from lm_deluge.cache.explain.search import similarity
from lm_deluge.cache.record import StoredRequest, pack_request, unpack_request
from lm_deluge.prompt import Conversation, File, Image, Message, Text, Thinking, ToolCall, ToolResult
from lm_deluge.request import Parameters

from . import strategies as some

PNG, OTHER_PNG = b"\x89PNG\r\n\x1a\n one", b"\x89PNG\r\n\x1a\n two"
PDF = b"%PDF-1.7 one"

CALL = ToolCall("call_1", "weather", {"city": "Rome", "days": [1, 2]})
FULL = Conversation(
    [
        Message("system", [Text("You answer in one word.")]),
        Message("user", [Text("See this:"), Image(data=PNG, detail="low"), File(data=PDF, filename="a.pdf")]),
        Message("assistant", [Thinking("Hm.", "c2ln"), Text("Let me look."), CALL]),
        Message("tool", [ToolResult("call_1", "sunny"), ToolResult("call_2", [Text("map"), Image(data=PNG)])]),
    ]
)
PARAMETERS = Parameters(
    model="gpt-4.1-mini",
    endpoint="https://api.openai.com/v1",
    params={"temperature": 0.0, "stop": ["a", "b"]},
    tools=[{"name": "weather", "description": "Weather in a city.", "parameters": {"type": "object"}}],
    tool_choice="auto",
    output_schema={"properties": {"x": {"type": "string"}}},
    extra_body={"foo": 1},
    extra_headers={"openai-beta": "ab" * 32},
)


def request(conversation: Conversation = FULL, **fields: object) -> StoredRequest:
    return StoredRequest(conversation=conversation, **fields)  # type: ignore[arg-type]


def with_part(message: int, part: int, new: object) -> Conversation:
    messages = list(FULL.messages)
    parts = list(messages[message].parts)
    parts[part] = new  # type: ignore[call-overload]
    messages[message] = Message(messages[message].role, parts)
    return Conversation(messages)


parameters = st.builds(
    Parameters,
    model=st.sampled_from(["a", "b"]),
    params=some.json_objects,
    tools=st.lists(some.json_objects, max_size=2),
    tool_choice=st.none() | st.just("auto"),
    output_schema=st.none() | some.json_objects,
    extra_body=some.json_objects,
    extra_headers=st.dictionaries(st.sampled_from(["x-a", "openai-beta"]), st.sampled_from(["00" * 32, "11" * 32])),
)


@given(some.conversations, st.none() | parameters)
@settings(deadline=None, max_examples=60)
def test_a_request_does_not_differ_from_what_was_stored_of_it(conversation, given_parameters):
    packed = pack_request(conversation)
    blobs = {name: blob.data for name, blob in packed.blobs.items()}
    back = unpack_request(packed.data, lambda names: blobs)
    assert differences(request(conversation), back) == ()
    assert similarity(conversation, back.conversation) == 1.0
    if given_parameters is not None:
        copied = msgspec.msgpack.decode(msgspec.msgpack.encode(given_parameters), type=Parameters)
        assert parameter_differences(given_parameters, copied) == ()


@given(st.lists(some.messages, max_size=4), st.lists(some.messages, max_size=4), st.data())
@settings(deadline=None, max_examples=100)
def test_conversations_differ_exactly_when_their_keys_do(left, right, data):
    # Parts of each in the other, so that they are often nearly the same.
    right = data.draw(st.lists(st.sampled_from([*left, *right]), max_size=5)) if left or right else right
    asked, stored = Conversation(left), Conversation(right)
    found = differences(request(asked), request(stored))
    assert (not found) == (asked.digest == stored.digest)
    assert 0 <= similarity(asked, stored) <= 1
    assert (similarity(asked, stored) == 1) == (not found)
    for difference in found:
        assert str(difference).isprintable()
        assert difference.asked != difference.stored


@given(parameters, parameters)
@settings(deadline=None, max_examples=100)
def test_parameters_differ_exactly_when_their_digests_do(left, right):
    found = parameter_differences(left, right)
    assert (not found) == (left.digest == right.digest)
    assert all(str(difference).isprintable() for difference in found)


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        (with_part(0, 0, Text("You answer in two words.")), "messages[0].text"),
        (with_part(1, 1, Image(data=OTHER_PNG, detail="low")), "messages[1].image"),
        (with_part(1, 1, Image(data=PNG, detail="high")), "messages[1].image.detail"),
        (with_part(1, 1, Image(data=PNG)), "messages[1].image.detail"),
        (with_part(1, 2, File(data=b"%PDF-1.7 two", filename="a.pdf")), "messages[1].file"),
        (with_part(1, 2, File(data=PDF)), "messages[1].file.filename"),
        (with_part(1, 1, Text("picture")), "messages[1].parts[1]"),
        (with_part(2, 0, Thinking("Hm!", "c2ln")), "messages[2].thinking"),
        (with_part(2, 0, Thinking("Hm.", "eHh4")), "messages[2].thinking.signature"),
        (with_part(2, 2, ToolCall("call_1", "weather", {"city": "Oslo", "days": [1, 2]})),
         "messages[2].tool_call.arguments.city"),
        (with_part(2, 2, ToolCall("call_1", "weather", {"city": "Rome", "days": [1, 2.0]})),
         "messages[2].tool_call.arguments.days[1]"),
        (with_part(2, 2, ToolCall("call_1", "weather", {"city": "Rome", "days": [1]})),
         "messages[2].tool_call.arguments.days[1]"),
        (with_part(3, 0, ToolResult("call_1", "cloudy")), "messages[3].tool_result[0].result"),
        (with_part(3, 0, ToolResult("call_1", "sunny", is_error=True)), "messages[3].tool_result[0].is_error"),
        (with_part(3, 1, ToolResult("call_2", [Text("map"), Image(data=OTHER_PNG)])),
         "messages[3].tool_result[1].result.image"),
        (Conversation([*FULL.messages, Message.user("And?")]), "messages[4]"),
        (Conversation(FULL.messages[:-1]), "messages[3]"),
        (Conversation([FULL.messages[0], Message.user("Hello"), *FULL.messages[1:]]), "messages[1]"),
        (Conversation([Message("user", FULL.messages[0].parts), *FULL.messages[1:]]), "messages[0].role"),
        (Conversation([Message("system", [*FULL.messages[0].parts, Text("!")]), *FULL.messages[1:]]),
         "messages[0].text[1]"),
    ],
)  # fmt: skip
def test_one_change_is_one_difference_at_its_place(changed: Conversation, path: str) -> None:
    assert [difference.path for difference in differences(request(changed), request())] == [path]
    assert [difference.path for difference in differences(request(), request(changed))] == [path]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"params": {"temperature": 0.2, "stop": ["a", "b"]}}, "params.temperature: asked 0.2, stored 0.0"),
        ({"params": {"temperature": 0, "stop": ["a", "b"]}}, "params.temperature: asked 0, stored 0.0"),
        ({"params": {"stop": ["a", "b"]}}, "params.temperature: asked not set, stored 0.0"),
        ({"params": {"temperature": 0.0, "stop": ["b"]}}, 'params.stop[0]: asked not set, stored "a"'),
        ({"model": "gpt-4.1"}, 'model: asked "gpt-4.1", stored "gpt-4.1-mini"'),
        ({"endpoint": ""}, 'endpoint: asked "", stored "https://api.openai.com/v1"'),
        ({"tools": []}, "tools[0]: asked not set, stored "),
        ({"tool_choice": None}, 'tool_choice: asked not set, stored "auto"'),
        ({"output_schema": None}, 'output_schema: asked not set, stored {"properties":'),
        ({"output_schema": {"properties": {}}}, 'output_schema.properties.x: asked not set, stored {"type":"string"}'),
        ({"extra_body": {"foo": True}}, "extra_body.foo: asked true, stored 1"),
        ({"extra_body": {"foo": 1, "bar": None}}, "extra_body.bar: asked null, stored not set"),
        ({"extra_body": {"foo": 1, "a b\x1b": "x"}}, 'extra_body["a b\\x1b"]: asked "x", stored not set'),
        ({"extra_headers": {"openai-beta": "cd" * 32}},
         "extra_headers.openai-beta: asked SHA-256 cdcdcdcdcdcd…, stored SHA-256 abababababab…"),
    ],
)  # fmt: skip
def test_a_parameter_is_shown_as_it_is_written(change: dict[str, object], line: str) -> None:
    asked = msgspec.structs.replace(PARAMETERS, **change)
    (difference,) = differences(request(parameters=asked), request(parameters=PARAMETERS))
    assert str(difference).startswith(line)


def test_a_tool_is_found_by_its_name_and_described_by_its_field() -> None:
    tool = PARAMETERS.tools[0]
    asked = msgspec.structs.replace(
        PARAMETERS, tools=[{"name": "clock"}, {**tool, "description": "Weather, in a city."}]
    )
    found = parameter_differences(asked, PARAMETERS)
    assert [difference.path for difference in found] == ["tools[0]", "tools[1].description"]


def test_parameters_are_not_compared_where_one_side_does_not_have_them() -> None:
    assert differences(request(parameters=PARAMETERS), request()) == ()
    found = differences(request(scope="request", sample=2), request())
    assert [str(difference) for difference in found] == [
        'scope: asked "request", stored "conversation"',
        "sample: asked 2, stored 0",
    ]


def test_an_excerpt_shows_where_a_long_text_differs() -> None:
    start = "word " * 160
    asked, stored = f"{start}and now the second of them {start}", f"{start}and now the first of them {start}"
    (difference,) = differences(request(Conversation.user(asked)), request(Conversation.user(stored)))
    assert (difference.path, difference.at) == ("messages[0].text", 812)
    assert str(difference).startswith('messages[0].text differs at character 812: asked "…')
    assert "now the second of them" in difference.asked
    assert "now the first of them" in difference.stored
    assert difference.asked.index("second") == difference.stored.index("first")
    assert len(str(difference)) < 200


@pytest.mark.parametrize(
    ("asked", "stored", "shown"),
    [
        ("end", "end ", ('"end"', '"end "')),
        ("a b", "a\xa0b", ('"a b"', '"a\\xa0b"')),
        ("a\r\nb", "a\nb", ('"a\\r\\nb"', '"a\\nb"')),
        ("ab", "a\u200bb", ('"ab"', '"a\\u200bb"')),
        ("caf\u00e9", "cafe\u0301", ('"caf\\xe9"', '"cafe\\u0301"')),
        ("\u0430pple", "apple", ('"\\u0430pple"', '"apple"')),  # a Cyrillic letter
        ("it\u2019s", "it's", ('"it\\u2019s"', '"it\'s"')),
        ("❤\ufe0f", "❤", ('"\\u2764\\ufe0f"', '"\\u2764"')),
        ("你好", "你们", ('"你好"', '"你们"')),
        ('say "a"', "say a", ('"say \\"a\\""', '"say a"')),
        ("\x1b[31mred", "red", ('"\\x1b[31mred"', '"red"')),
        ("tab\t", "tab\\t", ('"tab\\t"', '"tab\\\\t"')),
    ],
)
def test_what_cannot_be_seen_is_escaped(asked: str, stored: str, shown: tuple[str, str]) -> None:
    (difference,) = differences(request(Conversation.user(asked)), request(Conversation.user(stored)))
    assert (difference.asked, difference.stored) == shown


@given(st.text(alphabet=st.characters(), max_size=300), st.integers(0, 320))
def test_an_excerpt_is_printable_bounded_and_holds_the_character(text: str, at: int) -> None:
    shown = quoted(text, at, ascii_only=True)
    assert shown.isprintable()
    assert len(shown) <= 65
    if at < len(text):
        assert text[at] in ast.literal_eval(shown)
    assert len(escaped(text, 20)) <= 21


def test_a_difference_is_plain_data() -> None:
    assert msgspec.to_builtins(Difference("a.b", "1", "2")) == {"path": "a.b", "asked": "1", "stored": "2"}


def test_an_added_message_does_not_make_all_that_follow_differ() -> None:
    history = [Message("user" if n % 2 == 0 else "assistant", [Text(f"turn {n}")]) for n in range(40)]
    longer = [*history[:10], Message.user("note"), *history[10:20], Message.user("note 2"), *history[20:]]
    changed = [*history[:5], Message.ai("turn five"), *history[6:]]
    found = differences(request(Conversation(longer)), request(Conversation(history)))
    assert len(found) < 12
    assert {"messages[10]"} <= {difference.path for difference in found}
    (difference,) = differences(request(Conversation(changed)), request(Conversation(history)))
    assert difference.path == "messages[5].text"


def test_similarity_falls_with_what_is_changed() -> None:
    base = Conversation.system("You solve problems step by step. " * 100)
    question = "Tom has seven apples and gives the first half of them to Jane. How many are left?"
    asked = base.user(question)
    near = similarity(asked, base.user(question.replace("first", "second")))
    far = similarity(asked, base.user("What is the capital of France?"))
    none = similarity(asked, Conversation.user("What is the capital of France?"))
    assert 1 > near > far > none >= 0
    assert similarity(asked, Conversation()) == 0
