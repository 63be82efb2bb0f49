"""JSON from outside is read in one place, which takes what is nested without end for what cannot be read."""

import ast
import copy
import json
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lm_deluge import APIResponse, Conversation, LLMClient, Message
from lm_deluge._json import DEPTH, JsonReader, NotJson, is_deep, read_json, read_leniently
from lm_deluge.cache import SqliteCache
from lm_deluge.cli.prompts import read_json as read_file
from lm_deluge.cli.results import Results
from lm_deluge.cli.rows import RowReader
from lm_deluge.errors import ConfigError
from lm_deluge.models import resolve
from lm_deluge.prompt.parts import as_arguments
from lm_deluge.providers import Reply, StreamReader, parse
from lm_deluge.wire import HttpResponse

SOURCE = Path(__file__).parents[2] / "src" / "lm_deluge"
GPT = resolve("gpt-4.1", environ={})
CLAUDE = resolve("claude-sonnet-4-5", environ={})

ARRAYS = b"[" * 100_000 + b"]" * 100_000
OBJECTS = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
BELOW = b"[" * 900 + b"]" * 900  # where reading works and what comes after it does not
OPEN = b"[" * 100_000
DIGITS = b"7" * 5_000
UNREADABLE = {"arrays": ARRAYS, "objects": OBJECTS, "900 levels": BELOW, "an open end": OPEN, "digits": DIGITS}
BAD = pytest.mark.parametrize("bad", UNREADABLE.values(), ids=list(UNREADABLE))

DECODERS = {("json", "loads"), ("json", "load"), ("json", "decode"), ("json", "Decoder"), ("json", "JSONDecoder")}


def test_no_other_module_decodes_json() -> None:
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and (_last(node.value), node.attr) in DECODERS)
        or (isinstance(node, ast.ImportFrom) and {(node.module or "", one.name) for one in node.names} & DECODERS)
        or (isinstance(node, ast.ImportFrom) and node.module == "msgspec.json")
    }
    # What the emulator reads are requests of the tests that use it.
    assert {path for path in found if not path.startswith("testing/")} == {"_json.py"}


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


@BAD
def test_what_cannot_be_used_cannot_be_read(bad: bytes) -> None:
    for data in (bad, bad.decode(), b'{"z":' + bad + b"}"):
        with pytest.raises(NotJson):
            read_json(data)


def test_what_is_read_can_be_used() -> None:
    value = read_json(b"[" * DEPTH + b"]" * DEPTH)
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value
    assert len(repr(value)) == 2 * DEPTH
    with pytest.raises(NotJson, match="200 levels"):
        read_json(b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1))


@pytest.mark.parametrize("data", [b"", b"{", b"nonsense", b"\xff", b'"\\ud83d"', b"NaN", b'{"a":1}x'])
def test_what_is_no_json_is_one_error(data: bytes) -> None:
    with pytest.raises(NotJson):
        read_json(data)
    with pytest.raises(NotJson):
        JsonReader(int).read(data)


def test_depth_is_told_without_recursion() -> None:
    value: Any = 1
    for number in range(5_000):
        value = [value] if number % 2 else {"a": value, "b": [1, 2], "c": "text"}
    assert is_deep(value)
    assert is_deep([[1]], 1)
    assert not is_deep([[1]], 2)
    assert not is_deep([1, "[[["], 1)
    assert not is_deep("text", 0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a":1,"z":' + ARRAYS + b',"b":2}', {"a": 1, "b": 2}),
        (b'{"a":1,"z":' + OBJECTS + b',"b":2}', {"a": 1, "b": 2}),
        (b'{"a":1,"z":[' + ARRAYS + b"," + OBJECTS + b'],"b":2}', {"a": 1, "b": 2}),
        (b'{"a":"]]]}}}\\"[[","z":' + ARRAYS + b',"b":2}', {"a": ']]]}}}"[[', "b": 2}),
        (b'{"a":1,"z":' + DIGITS + b',"b":2}', {"a": 1, "z": None, "b": 2}),
        (b'{"a":1,"z":-' + DIGITS + b',"b":NaN}', {"a": 1, "z": None, "b": None}),
    ],
)
def test_what_was_paid_for_is_read_around_what_cannot_be(text: bytes, value: dict[str, Any]) -> None:
    read = read_leniently(text)
    assert {name: read[name] for name in value} == value


@pytest.mark.parametrize("data", [OPEN, b'{"a":' + OPEN + b'"', b"]" * 100_000, b'"' + b"\\" * 100_001, b""])
def test_what_has_no_end_is_no_json(data: bytes) -> None:
    with pytest.raises(NotJson):
        read_leniently(data)


# Every place where such data may come from


@BAD
def test_a_row_is_a_row_that_is_no_prompt(bad: bytes) -> None:
    reader = RowReader()
    rows = [*reader.feed(b'"first"\n' + bad + b'\n{"prompt":"x","more":' + bad + b'}\n"last"\n'), *reader.feed(b"")]
    problems = [row.problem for row in rows]
    assert (problems[0], problems[3]) == (None, None)
    assert rows[1].problem is not None
    assert rows[2].problem is not None
    assert rows[2].problem.startswith("Line 3 is not JSON")


@BAD
def test_files_of_the_command_line_are_refused(bad: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(bad)
    with pytest.raises(ConfigError, match="is not JSON"):
        read_file(tmp_path / "a.json")
    if bad is BELOW:
        return  # of a result the fields that are not known are skipped, and so is their depth
    (tmp_path / "a.jsonl").write_bytes(b'{"index":0,"key":"x-y","error":null,"z":' + bad + b"}\n")
    if bad is DIGITS:
        return
    with pytest.raises(ConfigError, match="is not a result"):
        Results.open(tmp_path / "a.jsonl", "x")


@BAD
def test_a_yaml_file_is_refused(bad: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"model: gpt-4.1\nextra_body: {a: " + bad + b"}\n")
    with pytest.raises(ConfigError):
        LLMClient.from_yaml(tmp_path / "a.yaml")


def test_a_yaml_file_that_names_its_parts_over_and_over_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    nested = "\n".join(f"  {line}" for line in lines)
    (tmp_path / "a.yaml").write_text(f"model: gpt-4.1\nextra_body:\n{nested}\n")
    with pytest.raises(ConfigError, match="so often"):
        LLMClient.from_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("model: gpt-4.1\nextra_body: &a {b: *a}\n")
    with pytest.raises(ConfigError, match="too deep"):
        LLMClient.from_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("model: gpt-4.1\nextra_body: {a: &a [1], b: *a}\n")
    LLMClient.from_yaml(tmp_path / "a.yaml")


@BAD
def test_a_raw_response_is_none(bad: bytes) -> None:
    body = b'{"z":' + bad + b"}"
    assert APIResponse(raw_body=body).raw_response is None
    assert APIResponse(raw_body=b'{"z":[1]}').raw_response == {"z": [1]}


@BAD
def test_arguments_of_a_tool_call_are_kept_as_text(bad: bytes) -> None:
    assert as_arguments(bad.decode()) == {"_raw": bad.decode()}


def test_a_stored_answer_with_such_a_body_is_served(tmp_path: Path) -> None:
    with SqliteCache(tmp_path / "c.db") as cache:
        prompt = Conversation.user("p")
        cache.put(prompt, APIResponse(content=Message.ai("hi"), raw_body=OBJECTS, finish_reason="stop"))
        found = cache.get(prompt)
        assert found is not None
        assert (found.completion, found.raw_response) == ("hi", None)


def answers(bad: bytes) -> list[tuple[Any, bytes]]:
    return [
        (GPT, b'{"z":' + bad + b',"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'),
        (
            GPT,
            b'{"choices":[{"z":' + bad + b',"message":{"z":' + bad + b',"content":"hi"}}],"usage":{"z":' + bad + b"}}",
        ),
        (CLAUDE, b'{"content":[{"type":"text","text":"hi"}],"z":' + bad + b"}"),
        (CLAUDE, b'{"content":[{"type":"text","text":"hi"},{"type":"odd","z":' + bad + b"}]}"),
        (GPT, b'{"choices":[{"message":{"content":"hi"},"logprobs":{"content":[{"z":' + bad + b"}]}}]}"),
        (
            GPT,
            b'{"choices":[{"message":{"content":"hi","tool_calls":[{"id":"a","function":{"name":"f","arguments":{"z":'
            + bad
            + b"}}}]}}]}",
        ),
    ]


@pytest.mark.parametrize("bad", [ARRAYS, OBJECTS, BELOW, DIGITS], ids=["arrays", "objects", "900 levels", "digits"])
def test_an_answer_is_not_lost_to_a_field_that_cannot_be_read(bad: bytes) -> None:
    """It was paid for, and asked again it would come the same way."""
    for model, body in answers(bad):
        reply = parse(model, HttpResponse(status=200, headers={}, body=body), now=0.0)
        assert isinstance(reply, Reply)
        assert reply.content.completion == "hi"
        response = APIResponse(content=reply.content, logprobs=reply.logprobs)
        for use in (repr, copy.deepcopy, pickle.dumps, msgspec.json.encode, APIResponse.to_dict):
            use(response)


@pytest.mark.parametrize("bad", [ARRAYS, OBJECTS, BELOW, DIGITS], ids=["arrays", "objects", "900 levels", "digits"])
def test_nor_is_a_streamed_one(bad: bytes) -> None:
    reader = StreamReader(GPT)
    reader.feed(b'data: {"choices":[{"delta":{"content":"hi"}}],"z":' + bad + b"}\n\n")
    reader.feed(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"z":' + bad + b"}}\n\n")
    reply = reader.result()
    assert isinstance(reply, Reply)
    assert reply.content.completion == "hi"
    assert json.loads(reader.body())["choices"][0]["message"]["content"] == "hi"
