"""Streamed answers, in both wire formats: the format's first letter, then the bytes of the stream.

However a stream is cut, the answer is the same, or the same error. A whole body that comes instead is one more case.
"""

import random
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from lm_deluge.models import Model
from lm_deluge.providers import Failure, StreamReader, parse
from lm_deluge.response import APIResponse
from lm_deluge.wire import HttpResponse

from .. import edits, samples
from ..asking import ask, check_message
from ..using import MODELS, use_response

SECONDS = 12.0
_EVERYWHERE = 3_000


def target(data: bytes, tmp: Path) -> list[str]:
    model = MODELS[data[:1] == b"a"]
    stream = data[1:]
    outcomes = [read(model, pieces) for pieces in _cuts(stream)]
    assert all(outcome == outcomes[0] for outcome in outcomes), "the same stream, cut otherwise, is another answer"
    said = outcomes[0]
    if len(stream) < 100_000:
        said += ask(
            model.name,
            HttpResponse(status=200, headers={"content-type": "text/event-stream"}, body=stream),
            stream=True,
        )
    return said


def _cuts(stream: bytes) -> list[list[bytes]]:
    """Whole, in single bytes, and in two or three pieces at some places."""
    cuts = [[stream]]
    if len(stream) <= _EVERYWHERE:
        cuts.append([stream[at : at + 1] for at in range(len(stream))])
    pick = random.Random(len(stream))
    for _ in range(4):
        one, two = sorted(pick.randrange(len(stream) + 1) for _ in range(2))
        cuts.append([stream[:one], stream[one:two], stream[two:]])
    return cuts


def read(model: Model, pieces: list[bytes]) -> list[str]:
    """What a stream amounts to, and what was said of it on the way."""
    reader = StreamReader(model)
    heard: dict[str, str] = {}
    for piece in pieces:
        for delta in reader.feed(piece):
            heard[delta.kind] = heard.get(delta.kind, "") + delta.text
    reply = reader.result()
    if isinstance(reply, Failure):
        check_message(reply.message)
        return [repr(reply), repr(heard), str(reader.has_begun)]
    whole = parse(model, HttpResponse(status=200, headers={}, body=reader.body()), now=0.0)
    assert not isinstance(whole, Failure), "the body that a stream amounts to is no answer"
    assert msgspec.json.encode(whole) == msgspec.json.encode(reply), (
        "the body that a stream amounts to is another answer"
    )
    answer = APIResponse(content=reply.content, usage=reply.usage, logprobs=reply.logprobs, raw_body=reader.body())
    return [*use_response(answer), repr(heard), str(reader.has_begun)]


def cases() -> st.SearchStrategy[bytes]:
    # No credential: who reads a stream alone knows none.
    failing = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    done = [[*samples.CHUNKS, msgspec.Raw(b"[DONE]")], samples.CHUNKS[:3], [*samples.CHUNKS[:3], failing]]
    chunks = [["o", *[_plain(event) for event in events]] for events in done]
    events = [["a", *some] for some in (samples.EVENTS, samples.EVENTS[:8], [*samples.EVENTS[:8], failing])]
    streams = edits.trees_like([*chunks, *events], sse)
    plain = [sse(some) for some in (*chunks, *events)]
    whole = [b"o" + msgspec.json.encode(samples.COMPLETION), b"a" + msgspec.json.encode(samples.MESSAGE)]
    return st.one_of(streams, edits.edited(streams), edits.bytes_like([*plain, *whole]))


def _plain(event: Any) -> Any:
    return "[DONE]" if isinstance(event, msgspec.Raw) else event


def sse(tree: Any) -> bytes:
    """Server-sent events."""
    letter, *events = tree
    lines = []
    for event in events:
        named = isinstance(event, dict) and isinstance(event.get("type"), str)
        name = f"event: {event['type']}\n".encode() if named else b""
        data = b"[DONE]" if event == "[DONE]" else msgspec.json.encode(event)
        lines.append(name + b"data: " + data + b"\n\n")
    return str(letter)[:1].encode() + b"".join(lines)
