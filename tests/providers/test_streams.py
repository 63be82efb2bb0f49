"""Answers that arrive in pieces: the same reply as at once, whatever the pieces; half an answer is none."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge.models import resolve
from lm_deluge.prompt import Message, ProviderBlock, Text, Thinking, ToolCall
from lm_deluge.providers import Delta, Failure, Reply, StreamReader, as_whole, parse
from lm_deluge.providers.sse import EventDecoder
from lm_deluge.usage import Usage
from lm_deluge.wire import HttpResponse

from . import golden

CLAUDE = resolve("claude-sonnet-4-5", environ={})
GPT = resolve("gpt-4.1", environ={})
CASES = [
    *((CLAUDE, body, reply) for body, reply in golden.ANTHROPIC_REPLIES.values()),
    *((GPT, body, reply) for body, reply in golden.OPENAI_REPLIES.values()),
]


def streamed(model, chunks: Iterator[bytes] | list[bytes]) -> tuple[Reply | Failure, list[Delta]]:
    reader = StreamReader(model)
    deltas = [delta for chunk in chunks for delta in reader.feed(chunk)]
    return reader.result(), deltas


def halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


def anthropic_events(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events in which Anthropic would have streamed ``message``."""
    usage = {**message["usage"], "output_tokens": 1}
    yield {"type": "message_start", "message": {**message, "content": [], "stop_reason": None, "usage": usage}}
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        start, deltas = dict(block), []
        if block["type"] == "text":
            start["text"] = ""
            deltas = [{"type": "text_delta", "text": piece} for piece in halves(block["text"])]
        elif block["type"] == "thinking":
            start |= {"thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in halves(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        elif block["type"] == "tool_use":
            start["input"] = {}
            deltas = [
                {"type": "input_json_delta", "partial_json": piece}
                for piece in ["", *halves(json.dumps(block["input"]))]
            ]
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    usage = {"output_tokens": message["usage"]["output_tokens"], "cache_read_input_tokens": None}
    usage |= {key: value for key, value in message["usage"].items() if key == "output_tokens_details"}
    yield {"type": "message_delta", "delta": delta, "usage": usage}
    yield {"type": "message_stop"}


def openai_events(completion: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The chunks in which OpenAI would have streamed ``completion``."""
    header = {**completion, "object": "chat.completion.chunk", "usage": None}
    choice = completion["choices"][0]
    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for name in ("content", "refusal"):
        deltas += [{name: piece} for piece in halves(message[name] or "")]
    for index, call in enumerate(message.get("tool_calls") or ()):
        arguments = call["function"]["arguments"]
        start = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        deltas.append({"tool_calls": [start]})
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in halves(arguments)]
    for position, delta in enumerate(deltas):
        logprobs = choice["logprobs"] if position == 1 else None
        choices = [{"index": 0, "delta": delta, "finish_reason": None, "logprobs": logprobs}]
        yield {**header, "choices": choices}
    yield {**header, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"], "logprobs": None}]}
    yield {**header, "choices": [], "usage": completion["usage"]}


def events_of(model, body: bytes) -> list[dict[str, Any]]:
    make = anthropic_events if model is CLAUDE else openai_events
    return list(make(json.loads(body)))


def stream_of(model, body: bytes, *, line_end: str = "\n") -> bytes:
    lines: list[str] = [": hello"]
    for event in events_of(model, body):
        lines += [f"event: {event['type']}"] if model is CLAUDE else []
        lines += [f"data: {json.dumps(event, ensure_ascii=False)}", ""]
    lines += [] if model is CLAUDE else ["data: [DONE]", ""]
    return (line_end.join(lines) + line_end).encode()


@pytest.mark.parametrize(("model", "body", "reply"), CASES)
def test_the_events_of_these_tests_are_the_sdks(model, body: bytes, reply: Reply) -> None:
    from anthropic.types import RawMessageStreamEvent
    from openai.types.chat import ChatCompletionChunk
    from pydantic import TypeAdapter

    for event in events_of(model, body):
        if model is GPT:
            ChatCompletionChunk.model_validate(event)
        elif event["type"] != "ping":
            TypeAdapter(RawMessageStreamEvent).validate_python(event)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("model", "body", "reply"), CASES)
def test_a_stream_is_the_reply_at_once(model, body: bytes, reply: Reply, line_end: str) -> None:
    stream = stream_of(model, body, line_end=line_end)
    whole, deltas = streamed(model, [stream])
    assert whole == reply
    by_byte, same_deltas = streamed(model, [stream[i : i + 1] for i in range(len(stream))])
    assert by_byte == reply
    assert same_deltas == deltas
    pieces = {kind: "".join(d.text for d in deltas if d.kind == kind) for kind in ("text", "thinking", "tool_call")}
    assert pieces["text"] == (reply.content.completion or "")
    assert pieces["thinking"] == "".join(part.text for part in reply.content.thinking_parts)
    if pieces["tool_call"]:
        assert json.loads(pieces["tool_call"]) == reply.content.tool_calls[0].arguments


texts = st.text(max_size=20)
anthropic_messages = st.builds(
    lambda blocks, reason: {
        "id": "msg",
        "model": "m",
        "content": blocks,
        "stop_reason": reason,
        "usage": {"input_tokens": 3, "output_tokens": 4},
    },
    st.lists(
        st.builds(lambda text: {"type": "text", "text": text}, texts)
        | st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}, texts)
        | st.builds(
            lambda arguments: {"type": "tool_use", "id": "t", "name": "f", "input": arguments},
            st.dictionaries(texts, texts, max_size=2),
        )
        | st.just({"type": "web_search_tool_result", "tool_use_id": "t", "content": []}),
        max_size=4,
    ),
    st.sampled_from(["end_turn", "tool_use", "max_tokens"]),
)
openai_completions = st.builds(
    lambda content, refusal, arguments: {
        "id": "c",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "content": content,
                    "refusal": refusal,
                    "tool_calls": [
                        {"id": f"c{i}", "type": "function", "function": {"name": "f", "arguments": text}}
                        for i, text in enumerate(arguments)
                    ],
                },
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    },
    texts,
    st.none() | texts,
    st.lists(texts, max_size=3),
)


@settings(deadline=None)
@given(data=st.data(), cuts=st.lists(st.integers(0, 3000), max_size=12))
@pytest.mark.parametrize("model", [CLAUDE, GPT], ids=lambda model: model.service.wire)
def test_any_answer_cut_anywhere_is_the_same(model, data, cuts: list[int]) -> None:
    body = json.dumps(data.draw(anthropic_messages if model is CLAUDE else openai_completions)).encode()
    stream = stream_of(model, body)
    places = [0, *sorted(cuts), len(stream)]
    reply, _ = streamed(model, [stream[start:end] for start, end in itertools.pairwise(places)])
    assert reply == parse(model, HttpResponse(status=200, headers={}, body=body), now=0.0)


@pytest.mark.parametrize(("model", "body", "reply"), CASES)
def test_a_stream_cut_short_is_a_failure(model, body: bytes, reply: Reply) -> None:
    """Wherever it is cut before the event that completes the answer; after it, the answer is kept."""
    stream = stream_of(model, body)
    last = b'"type": "message_stop"' if model is CLAUDE else b'"finish_reason": "'
    complete = stream.index(last) + len(last)
    for end in range(0, complete, 7):
        found, _ = streamed(model, [stream[:end]])
        assert isinstance(found, Failure)
        assert found.retryable
        assert found.kind in ("truncated_stream", "invalid_response")
    without_end = stream[: stream.index(b"\n\n", complete)]  # not even the blank line
    found, _ = streamed(model, [without_end])
    assert isinstance(found, Reply)
    assert found.content == reply.content


@pytest.mark.parametrize(
    ("model", "event", "status", "retryable"),
    [
        (CLAUDE, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529, True),
        (CLAUDE, {"type": "error", "error": {"type": "invalid_request_error", "message": "No"}}, 400, False),
        (GPT, {"error": {"type": "server_error", "message": "Overloaded", "code": None}}, 500, True),
        (GPT, {"error": {"message": "upstream", "code": 502}, "choices": []}, 502, True),
    ],
)
def test_an_error_in_the_middle(model, event: dict, status: int, retryable: bool) -> None:
    body = golden.ANTHROPIC_REPLIES["text"][0] if model is CLAUDE else golden.OPENAI_REPLIES["text"][0]
    stream = stream_of(model, body)
    middle = stream.index(b"\n\n", stream.index(b'"He')) + 2
    error = b"data: " + json.dumps(event).encode() + b"\n\n"
    found, _ = streamed(model, [stream[:middle], error, stream[middle:]])
    assert isinstance(found, Failure)
    assert (found.status, found.retryable) == (status, retryable)
    # After the end it changes nothing: the answer is whole.
    found, _ = streamed(model, [stream, error])
    assert isinstance(found, Reply)


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def test_unknown_events_and_deltas_are_ignored() -> None:
    start, *rest = events_of(CLAUDE, golden.ANTHROPIC_REPLIES["text"][0])
    odd = {"type": "content_block_delta", "index": 0, "delta": {"type": "smell_delta", "smell": "rose"}}
    rest.insert(3, odd)
    found, _ = streamed(CLAUDE, [sse(start, {"type": "weather"}, *rest)])
    assert found == golden.ANTHROPIC_REPLIES["text"][1]


def test_a_delta_of_a_block_that_never_began_is_a_failure() -> None:
    events = events_of(CLAUDE, golden.ANTHROPIC_REPLIES["text"][0])
    found, _ = streamed(CLAUDE, [sse(*(event for event in events if event["type"] != "content_block_start"))])
    assert isinstance(found, Failure)
    assert "has not begun" in found.message


def test_a_message_that_never_began_is_a_failure() -> None:
    _, *rest = events_of(CLAUDE, golden.ANTHROPIC_REPLIES["text"][0])
    found, _ = streamed(CLAUDE, [sse(*rest)])
    assert isinstance(found, Failure)
    assert (found.kind, found.retryable) == ("truncated_stream", True)


def test_a_server_tool_streams_into_its_block() -> None:
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    events = [
        {"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"q":1}'}},
        {"type": "message_stop"},
    ]
    found, _ = streamed(CLAUDE, [sse(*events)])
    assert isinstance(found, Reply)
    assert found.content.parts == (ProviderBlock("anthropic", {**block, "input": {"q": 1}}),)


def test_chunks_of_other_servers() -> None:
    """Reasoning, content as parts, calls without an index, usage in the last chunk, no ``[DONE]``."""
    deltas = [
        {"reasoning": "H"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "m"}]}]},
        {"content": [{"type": "text", "text": "Hi"}]},
        {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": '{"x"'}}]},
        {"tool_calls": [{"function": {"arguments": ":1}"}}]},
        {"tool_calls": [{"id": "b", "function": {"name": "g"}}]},
    ]
    chunks = [{"choices": [{"delta": delta}]} for delta in deltas]
    last = {"choices": [{"delta": {}, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 5}}
    found, _ = streamed(GPT, [sse(*chunks, last)])
    assert isinstance(found, Reply)
    assert found.content == Message(
        "assistant", (Thinking("Hm"), Text("Hi"), ToolCall("a", "f", {"x": 1}), ToolCall("b", "g"))
    )
    assert found.usage == Usage(input_tokens=5)


def test_done_alone_completes_an_answer_without_a_finish_reason() -> None:
    found, _ = streamed(GPT, [sse({"choices": [{"delta": {"content": "Hi"}}]}), b"data: [DONE]\n\n"])
    assert isinstance(found, Reply)
    assert found.content == Message.ai("Hi")


@settings(deadline=None)
@given(chunks=st.lists(st.binary(max_size=30) | st.sampled_from([b"data: ", b"\n", b"\r", b"{}", b'{"type":"x"}'])))
@pytest.mark.parametrize("model", [CLAUDE, GPT], ids=lambda model: model.service.wire)
def test_no_stream_raises(model, chunks: list[bytes]) -> None:
    found, _ = streamed(model, chunks)
    assert isinstance(found, (Reply, Failure))


# Server-sent events themselves


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", ["a"]),
        (b"data:a\r\n\r\n", ["a"]),
        (b"data: a\rdata: b\r\r", ["a\nb"]),
        (b"data:  a\n\n", [" a"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b": comment\n\nevent: x\nid: 1\nretry: 2\n\ndata\n\n", [""]),
        (b"dataset: a\n\ndata: b\n\n", ["b"]),
        (b"data: a\n\n\n\ndata: b", ["a", "b"]),
        ("data: é🌍\u2028x\n\n".encode(), ["é🌍\u2028x"]),
        (b"data: \xff\n\n", ["\ufffd"]),
    ],
)
def test_events(stream: bytes, events: list[str]) -> None:
    for size in (1, 2, 3, len(stream)):
        decoder = EventDecoder()
        found = [data for i in range(0, len(stream), size) for data in decoder.feed(stream[i : i + size])]
        assert found + decoder.close() == events


def test_a_long_line_in_small_pieces_takes_linear_time() -> None:
    decoder = EventDecoder()
    decoder.feed(b"data: ")
    for _ in range(200_000):
        decoder.feed(b"x")
    (data,) = decoder.feed(b"\n\n")
    assert len(data) == 200_000


BLANKS = [b"", b"\n\n  \r\n", b"\xef\xbb\xbf"]


@pytest.mark.parametrize("blanks", BLANKS)
@pytest.mark.parametrize(("model", "body", "reply"), CASES)
def test_an_answer_that_comes_at_once_to_a_streamed_request_is_the_answer(model, body, reply, blanks) -> None:
    """Servers that cannot stream leave the field out of account. What they send is paid for."""
    given = blanks + body
    for chunks in ([given], [given[i : i + 1] for i in range(len(given))]):
        assert streamed(model, chunks) == (reply, [])
    reader = StreamReader(model)
    reader.feed(given)
    reader.result()
    assert reader.body() == given


@pytest.mark.parametrize("blanks", BLANKS)
@pytest.mark.parametrize(("model", "body", "reply"), CASES)
def test_events_that_nobody_asked_for_are_the_answer(model, body, reply, blanks) -> None:
    whole = as_whole(model, blanks + stream_of(model, body))
    assert isinstance(whole, bytes)
    assert parse(model, HttpResponse(status=200, headers={}, body=whole), now=0.0) == reply


@pytest.mark.parametrize(("model", "body", "reply"), CASES)
def test_a_whole_answer_stays_as_it_is_and_an_end_of_a_stream_behind_it_is_passed_over(model, body, reply) -> None:
    assert as_whole(model, body) is body
    assert as_whole(model, body + b"[DONE]") == body + b"[DONE]"  # part of no stream
    whole = as_whole(model, body + b"\n\ndata: [DONE]\n\n")
    assert isinstance(whole, bytes)
    assert whole.rstrip() == body.rstrip()
    assert parse(model, HttpResponse(status=200, headers={}, body=whole), now=0.0) == reply


@pytest.mark.parametrize("model", [CLAUDE, GPT])
@pytest.mark.parametrize("body", [b"<html>data: no</html>", b"", b"\n", b"null", b"data", b"\xff\xfe\x00"])
def test_what_is_no_answer_is_none_either_way(model, body) -> None:
    found, _ = streamed(model, [body])
    assert isinstance(found, Failure)
    assert found.retryable
    assert as_whole(model, body) == body


@pytest.mark.parametrize("model", [CLAUDE, GPT])
def test_the_words_of_an_error_that_comes_at_once_to_a_streamed_request_are_told(model) -> None:
    body = json.dumps({"error": {"type": "overloaded_error", "message": "Too many cooks", "code": 529}}).encode()
    found, _ = streamed(model, [body])
    assert isinstance(found, Failure)
    assert found.status == 529
    assert "Too many cooks" in found.message
