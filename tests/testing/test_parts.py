"""The emulator's parts by themselves: schema examples, token arithmetic, error places, media checks, the data set."""

import base64
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge.testing import Answer, AnswerToolCall, ParsedRequest, count_tokens, gsm8k
from lm_deluge.testing.answers import finished
from lm_deluge.testing.dataset import find_answer
from lm_deluge.testing.decoding import ShapeProblem, decode
from lm_deluge.testing.media import decode_base64, sniff, url_problem
from lm_deluge.testing.schemas import example
from lm_deluge.testing.tokens import cut, token_bytes

calm = settings(deadline=None, derandomize=True, database=None)


# -- the data set


def test_the_data_set_is_whole() -> None:
    test, train = gsm8k(), gsm8k("train")
    assert (len(test), len(train)) == (1319, 120)
    assert all(set(row) == {"question", "answer"} and "####" in row["answer"] for row in test + train)
    test[0]["question"] = "changed"
    assert gsm8k()[0]["question"].startswith("Janet’s ducks"), "callers get copies"


def test_every_question_is_recognized_in_a_prompt() -> None:
    for row in gsm8k() + gsm8k("train"):
        assert find_answer(f"Solve this.\n\nQ: {row['question']}\nA: think first.") == row["answer"]


def test_the_last_question_of_a_many_shot_prompt_counts() -> None:
    shots = "\n\n".join(f"Q: {row['question']}\nA: {row['answer']}" for row in gsm8k("train")[:20])
    assert find_answer(f"{shots}\n\nQ: {gsm8k()[7]['question']}\nA:") == gsm8k()[7]["answer"]
    assert find_answer(gsm8k()[7]["question"][5:]) is None, "a part of a question is no question"


# -- tokens


@calm
@given(st.text(max_size=200), st.integers(0, 60))
def test_token_arithmetic_holds_for_any_text(text: str, limit: int) -> None:
    tokens = token_bytes(text)
    assert b"".join(tokens) == text.encode()
    assert len(tokens) == count_tokens(text)
    kept = cut(text, limit)
    assert text.startswith(kept)
    assert count_tokens(kept) <= limit
    assert limit < count_tokens(text) or kept == text


def test_tokens_are_four_bytes() -> None:
    assert [count_tokens(each) for each in ("", "a", "abcd", "abcde", "ééé", "漢字")] == [0, 1, 1, 2, 2, 2]


# -- limits on answers


def limited(answer: Answer, **limits: Any) -> Any:
    request = ParsedRequest(provider="openai", path="/", model="m", text="", body=b"{}", **limits)
    return finished(answer, request, thinks=False)


def test_the_earliest_stop_sequence_ends_the_text() -> None:
    done = limited(Answer(text="one two three"), stop=("three", "two"))
    assert (done.answer.text, done.finish, done.stop_sequence) == ("one ", "stop", "two")


def test_the_limit_counts_what_a_stop_sequence_left() -> None:
    done = limited(Answer(text="one two three"), stop=("two",), max_tokens=1)
    assert (done.answer.text, done.finish, done.stop_sequence) == ("one ", "stop", "two")
    done = limited(Answer(text="one two three"), stop=("three",), max_tokens=1)
    assert (done.answer.text, done.finish, done.stop_sequence) == ("one ", "length", None)


def test_a_cut_answer_makes_no_calls() -> None:
    answer = Answer(text="I will look it up", tool_calls=(AnswerToolCall(name="f"),))
    assert limited(answer).finish == "tool_calls"
    done = limited(answer, max_tokens=2)
    assert (done.finish, done.answer.tool_calls) == ("length", ())


def test_thinking_uses_up_the_limit() -> None:
    request = ParsedRequest(provider="anthropic", path="/", model="m", text="", body=b"{}", max_tokens=20)
    done = finished(Answer(text="word" * 100), request, thinks=True)
    assert (done.thinking_tokens, done.text_tokens, done.finish) == (5, 15, "length")


# -- schemas


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "properties": {"a": {"type": "null"}, "b": {}}, "required": ["a"]}, {"a": None}),
        ({"const": 7}, 7),
        ({"enum": ["x", "y"], "type": "string"}, "x"),
        ({"type": ["null", "integer"], "minimum": 3}, 3),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "integer", "minimum": 5, "multipleOf": 4}, 8),
        ({"type": "string", "minLength": 6}, "textxx"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True]),
        ({"type": "array", "prefixItems": [{"const": 1}], "minItems": 2, "items": {"const": 2}}, [1, 2]),
        ({"anyOf": [{"type": "string", "enum": ["q"]}, {"type": "null"}]}, "q"),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"const": True}}}, True),
        (
            {
                "allOf": [
                    {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]},
                    {"properties": {"b": {"const": 2}}, "required": ["b"]},
                ]
            },
            {"a": 1, "b": 2},
        ),
    ],
)
def test_examples_satisfy_their_schemas(schema: dict[str, Any], value: Any) -> None:
    assert example(schema) == value


def test_a_schema_that_contains_itself_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    msgspec.json.encode(example(node))


# -- places of errors


class Leaf(msgspec.Struct, forbid_unknown_fields=True, tag="leaf"):
    size: Annotated[int, msgspec.Meta(ge=1)]


class Other(msgspec.Struct, forbid_unknown_fields=True, tag="other"):
    names: dict[str, list[int]]


class Tree(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[list[Leaf | Other]]


@pytest.mark.parametrize(
    ("rows", "kind", "path"),
    [
        (
            [[{"type": "leaf", "size": 1}], [{"type": "leaf", "size": 1}, {"type": "leaf", "size": 0}]],
            "range",
            (1, 1, "size"),
        ),
        ([[{"type": "leaf"}]], "missing", (0, 0, "size")),
        ([[], [], [{"type": "leaf", "size": 1, "x": 1}]], "unknown", (2, 0, "x")),
        ([[{"type": "twig"}]], "value", (0, 0, "type")),
        ([[{"type": "other", "names": {"a": [1], "b": [1, 2, "3"]}}]], "type", (0, 0, "names", "b", 2)),
        ([[{"type": "leaf", "size": 1}], 5], "type", (1,)),
    ],
)
def test_the_failing_element_is_found(rows: Any, kind: str, path: tuple[Any, ...]) -> None:
    problem = decode(msgspec.json.encode({"rows": rows}), msgspec.json.Decoder(Tree))
    assert isinstance(problem, ShapeProblem)
    assert (problem.kind, problem.path) == (kind, ("rows", *path))


def test_no_json_at_all() -> None:
    for broken in (b"", b"{", b'{"rows": [}', b"\xff"):
        problem = decode(broken, msgspec.json.Decoder(Tree))
        assert isinstance(problem, ShapeProblem)
        assert problem.kind == "syntax"


# -- media


def test_base64_is_taken_strictly() -> None:
    data = bytes(range(256))
    good = base64.b64encode(data).decode()
    assert decode_base64(good) == data
    for bad in ("", "=", "abc", good + "=", good[:8] + "\n" + good[8:], good.replace("/", "_"), " " + good, good[:-1]):
        assert decode_base64(bad) is None, bad


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\nrest", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", None),
        (b"%PDF-1.4", "application/pdf"),
        (b"BM", None),
        (b"", None),
    ],
)
def test_media_types_are_told_by_their_first_bytes(data: bytes, kind: str | None) -> None:
    assert sniff(data) == kind


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://example.com/a.png", True),
        ("http://127.0.0.1:80/a", True),
        ("ftp://example.com/a", False),
        ("/etc/passwd", False),
        ("https:///a.png", False),
        ("https://example.invalid/a", False),
        ("https://invalid/a", False),
        ("https://example.com:port/a", False),
        ("http://[::1", False),
    ],
)
def test_urls(url: str, fine: bool) -> None:
    assert (url_problem(url) is None) is fine
