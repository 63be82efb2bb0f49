"""Bodies that are small on the wire and huge as values: they cost a few times their size, and no time on the loop."""

import json
import threading
import tracemalloc
from typing import Any

import pytest

import lm_deluge.engine.settle as settle
from lm_deluge._json import LARGE
from lm_deluge.models import resolve
from lm_deluge.providers import Failure, Reply, StreamReader, parse
from lm_deluge.testing import Emulator, Fault
from lm_deluge.wire import HttpResponse

GPT = resolve("gpt-4.1", environ={})
CLAUDE = resolve("claude-sonnet-4-5", environ={})
OPENAI = b'{"id":"a","model":"m","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"%b}]%b}'
ANTHROPIC = (
    b'{"id":"a","model":"m","type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"%b}'
)
OBJECTS = b"{}," * 1_500_000 + b"{}"
ARRAYS = b"[]," * 1_500_000 + b"[]"
TEXTS = b'"",' * 2_500_000 + b'""'


def read(body: bytes, model: Any = GPT, status: int = 200) -> Reply | Failure:
    return parse(model, HttpResponse(status=status, headers={}, body=body), now=0.0)


BODIES = {
    "objects beside the answer": (GPT, OPENAI % (b"", b',"z":[' + OBJECTS + b"]")),
    "arrays beside the answer": (GPT, OPENAI % (b"", b',"z":[' + ARRAYS + b"]")),
    "texts beside the answer": (GPT, OPENAI % (b"", b',"z":[' + TEXTS + b"]")),
    "in the choice": (GPT, OPENAI % (b',"z":[' + OBJECTS + b"]", b"")),
    "in logprobs": (GPT, OPENAI % (b',"logprobs":{"content":[' + OBJECTS + b"]}", b"")),
    "in usage": (GPT, OPENAI % (b"", b',"usage":[' + OBJECTS + b"]")),
    "more choices": (GPT, OPENAI.replace(b"]%b}", b"," + OBJECTS + b"]%b}") % (b"", b"")),
    "beside a message": (CLAUDE, ANTHROPIC % (b',"z":[' + OBJECTS + b"]")),
    "in a message's usage": (CLAUDE, ANTHROPIC % (b',"usage":{"z":[' + OBJECTS + b"]}")),
}


@pytest.mark.parametrize("name", BODIES)
def test_what_is_not_read_is_skipped(name: str) -> None:
    model, body = BODIES[name]
    tracemalloc.start()
    try:
        reply = read(body, model)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(reply, Reply)
    assert (reply.content.completion, reply.finish_reason, reply.model, reply.response_id) == ("hi", "stop", "m", "a")
    assert peak < 4 * len(body)


@pytest.mark.parametrize(
    "body",
    [
        OPENAI.replace(b'"hi"', b"[" + OBJECTS + b"]") % (b"", b""),
        OPENAI.replace(b'"hi"', b'"hi","tool_calls":[' + OBJECTS + b"]") % (b"", b""),
        b'{"z":[' + OBJECTS + b"]}",
        b"[" * 3_000_000,
        b'{"choices":[{"message":{"content":"hi"}}],"z":' + b"[" * 100_000 + b"," * 3_000_000,
        OPENAI % (b"", b',"z":[' + OBJECTS * 3 + b"]"),
        OPENAI % (b"", b',"q":NaN,"z":"' + b"x" * LARGE + b'"'),
        OPENAI % (b"", b',"q":"\\ud83d","z":"' + b"x" * LARGE + b'"'),
    ],
    ids=["content", "tool calls", "no answer", "open end", "depth", "beyond any answer", "NaN", "half an emoji"],
)
def test_what_cannot_be_read_cheaply_is_an_error_that_is_not_paid_for_again(body: bytes) -> None:
    tracemalloc.start()
    try:
        found = read(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(found, Failure)
    assert peak < 4 * len(body)
    if "MB" in found.message:
        assert not found.retryable


@pytest.mark.parametrize(
    "content", ["x, [{" * 300_000, "\\u00e9" * 300_000, "😀" * 300_000], ids=["like JSON", "escapes", "emoji"]
)
def test_a_long_answer_is_read_as_it_is(content: str) -> None:
    text = json.loads(f'"{content}"')
    body = json.dumps({"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": 7}}).encode()
    assert len(body) > LARGE
    reply = read(body)
    assert isinstance(reply, Reply)
    assert reply.content.completion == text
    assert reply.usage is not None


def test_a_number_of_millions_of_digits_is_no_number() -> None:
    for digits in (b"7" * (LARGE // 2), b"7" * (2 * LARGE)):
        found = read(OPENAI % (b"", b',"z":' + digits))
        assert isinstance(found, (Reply, Failure))


@pytest.mark.parametrize("status", [200, 500])
def test_an_error_of_megabytes_says_its_beginning(status: int) -> None:
    found = read(
        b'{"error":{"message":"too busy","type":"overloaded_error","code":503},"z":[' + OBJECTS + b"]}", status=status
    )
    assert isinstance(found, Failure)
    assert "too busy" in found.message
    assert len(found.message) < 600
    assert found.retryable


def test_events_of_a_stream_are_read_the_same_way() -> None:
    reader = StreamReader(GPT)
    reader.feed(b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n')
    reader.feed(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"z":[' + OBJECTS + b"]}\n\n")
    result = reader.result()
    assert isinstance(result, (Reply, Failure))


def test_large_bodies_are_read_off_the_loop(
    emulator: Emulator, make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def watched(*given: Any, **named: Any) -> Reply | Failure:
        threads.append(threading.current_thread().name)
        return parse(*given, **named)

    monkeypatch.setattr(settle, "parse", watched)
    client = make_client()
    long = OPENAI % (b"", b',"z":"' + b"x" * LARGE + b'"')
    emulator.script([Fault.raw(200, long), Fault.raw(200, OPENAI % (b"", b""))])
    for prompt in ("a", "b"):
        (response,) = client.process_prompts_sync([prompt], show_progress=False)
        assert response.completion == "hi"
    assert [name == "lm_deluge worker" for name in threads] == [True, False]
