"""The stored request: it reads back as the prompt that was asked, and what many prompts share is stored once."""

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.codec import compress
from lm_deluge.cache.entry import Blob
from lm_deluge.cache.record import (
    PackedParameters,
    PackedRequest,
    Scope,
    StoredRequest,
    pack_request,
    refers_of,
    refers_of_blob,
    unpack_request,
)
from lm_deluge.errors import DamagedEntryError
from lm_deluge.prompt import Conversation, File, Image, Message, Text, ToolResult
from lm_deluge.request import Parameters

from . import strategies as some
from .helpers import answer

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8


def reader(blobs: Mapping[bytes, Blob]) -> Callable[[Sequence[bytes]], dict[bytes, bytes]]:
    return lambda names: {name: blobs[name].data for name in names if name in blobs}


def reachable(packed: PackedRequest) -> set[bytes]:
    found: set[bytes] = set()
    left = list(packed.refers)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left.extend(packed.blobs[name].refers)
    return found


@given(some.conversations, st.booleans(), st.integers(0, 9), st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_stored_request_is_the_prompt(conversation: Conversation, scoped: bool, sample: int, redacted: bool) -> None:
    scope: Scope = "request" if scoped else "conversation"
    packed = pack_request(conversation, scope=scope, sample=sample, redacted=redacted)
    back = unpack_request(packed.data, reader(packed.blobs))
    assert back == StoredRequest(conversation=conversation, scope=scope, sample=sample, redacted=redacted)
    assert back.conversation.digest == conversation.digest


@given(some.conversations)
@settings(deadline=None, max_examples=60)
def test_what_refers_to_what_can_be_told_from_the_bytes(conversation: Conversation) -> None:
    packed = pack_request(conversation, PackedParameters.of(Parameters(model="m", extra_body={"x": "y" * 2_000})))
    assert set(refers_of(packed.data)) == set(packed.refers)
    assert reachable(packed) == set(packed.blobs)
    for name, blob in packed.blobs.items():
        assert hashlib.sha256(blob.data).digest() == name
        assert set(refers_of_blob(blob.data)) == set(blob.refers)


@pytest.mark.parametrize("size", [1, 5_000], ids=["short", "long"])
def test_parameters_come_back(size: int) -> None:
    parameters = Parameters(
        model="gpt-4.1-mini",
        endpoint="https://api.openai.com/v1",
        params={"temperature": 0.5, "stop": ["x" * size]},
        tools=[{"name": "t", "parameters": {"type": "object"}}],
        tool_choice="required",
        output_schema={"type": "object"},
        extra_body={"a": [1, None]},
        extra_headers={"openai-beta": "00ff"},
    )
    packed = pack_request(Conversation.user("p"), PackedParameters.of(parameters))
    assert len(packed.blobs) == (size > 1)
    assert unpack_request(packed.data, reader(packed.blobs)).parameters == parameters


def test_media_inside_tool_results_come_back() -> None:
    image, pdf = Image(data=PNG, media_type="image/png"), File(data=b"%PDF-1.7 x", media_type="application/pdf")
    conversation = Conversation(
        [
            Message("tool", [ToolResult("call_1", [Text("see"), image], is_error=True), ToolResult("call_2", "plain")]),
            Message("user", [pdf, image, Text("and?"), Image(url="https://example.com/a.png")]),
        ]
    )
    packed = pack_request(conversation)
    assert [blob.data for blob in packed.blobs.values()].count(PNG) == 1
    assert unpack_request(packed.data, reader(packed.blobs)).conversation == conversation


def test_short_messages_need_no_blob_and_long_ones_are_referred_to() -> None:
    short, long = Message.user("short"), Message.system("long " * 1_000)
    packed = pack_request(Conversation([long, short, long]))
    assert len(packed.blobs) == 1
    assert len(packed.data) < 200
    assert unpack_request(packed.data, reader(packed.blobs)).conversation == Conversation([long, short, long])


def test_a_prefix_of_many_short_messages_is_shared_too() -> None:
    shots = Conversation()
    for number in range(200):
        shots = shots.user(os.urandom(200).hex()).add(Message.ai(f"grade {number}"))
    packed = [pack_request(shots.user(f"question {number}")) for number in range(50)]
    blobs = {name: blob for request in packed for name, blob in request.blobs.items()}
    assert sum(len(blob.data) for blob in blobs.values()) < 110_000  # once, not fifty times
    assert max(len(request.data) for request in packed) < 2_000
    assert all(len(request.refers) == 1 for request in packed)
    for number, request in enumerate(packed):
        assert unpack_request(request.data, reader(blobs)).conversation == shots.user(f"question {number}")


def test_a_growing_conversation_adds_only_what_is_new() -> None:
    talk = Conversation()
    blobs: dict[bytes, Blob] = {}
    size = 0
    for number in range(100):
        talk = talk.user(os.urandom(300).hex()).add(Message.ai(f"turn {number}"))
        packed = pack_request(talk)
        blobs.update(packed.blobs)
        size += len(packed.data)
    assert size + sum(len(blob.data) for blob in blobs.values()) < 4 * 100 * 600


def test_a_missing_or_changed_blob_is_never_another_prompt() -> None:
    base = Conversation.system("long " * 1_000).user("x", image=PNG)
    for number in range(20):
        base = base.user(f"{number} " * 100)
    packed = pack_request(base.load(), PackedParameters.of(Parameters(model="m" * 2_000)))
    assert len(packed.blobs) > 4
    for name, blob in packed.blobs.items():
        with pytest.raises(DamagedEntryError, match="missing"):
            unpack_request(packed.data, reader({n: b for n, b in packed.blobs.items() if n != name}))
        with pytest.raises(DamagedEntryError, match="digest"):
            unpack_request(packed.data, reader({**packed.blobs, name: Blob(blob.data[:-1] + b"?")}))
    for broken in (packed.data[:-1], b"", b"\x00" * 20):
        with pytest.raises(DamagedEntryError):
            unpack_request(broken, reader(packed.blobs))
        with pytest.raises(DamagedEntryError):
            refers_of(broken)


def test_a_stored_path_is_never_read(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    hostile = {"messages": [Message("user", [Image(path=str(tmp_path / "secret.png"))])]}
    with pytest.raises(DamagedEntryError, match="local file"):
        unpack_request(compress(msgspec.msgpack.encode(hostile)), lambda names: {})


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=300)
def test_hostile_bytes_are_damage_and_nothing_else(data: bytes) -> None:
    assert isinstance(refers_of_blob(data), tuple)
    for packed in (data, compress(data)):
        try:
            unpack_request(packed, lambda names: dict.fromkeys(names, data))
        except DamagedEntryError:
            continue


def test_a_long_shared_prefix_is_stored_once(tmp_path: Path) -> None:
    prefix = Conversation.system(os.urandom(40_000).hex())  # 80 kB that hardly compress
    path = tmp_path / "cache.db"

    async def store(cache: SqliteCache) -> None:
        await asyncio.gather(*(cache.store(prefix.user(f"q{n}"), answer(n)) for n in range(1_000)))

    with SqliteCache(path) as cache:
        asyncio.run(store(cache))
        assert cache.get(prefix.user("q7")) == answer(7)
    assert path.stat().st_size < 80_000 + 1_000 * 600


def test_an_image_is_stored_once(tmp_path: Path) -> None:
    picture = b"\x89PNG\r\n\x1a\n" + os.urandom(100_000)
    path = tmp_path / "cache.db"
    for _ in range(2):  # the second time by another object, which has not seen the image before
        with SqliteCache(path) as cache:
            for number in range(20):
                cache.put(Conversation.user(f"Question {number}", image=picture), answer(number))
    assert path.stat().st_size < 160_000
