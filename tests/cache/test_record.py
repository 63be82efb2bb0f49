"""The stored request: it reads back as the prompt that was asked, and what many prompts share is stored once."""

import asyncio
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.record import pack_request, unpack_request
from lm_deluge.errors import DamagedEntryError
from lm_deluge.prompt import Conversation, File, Image, Message, Text, ToolResult

from . import strategies as some
from .helpers import answer

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8


@given(some.conversations)
@settings(deadline=None, max_examples=60)
def test_a_stored_request_is_the_prompt(conversation: Conversation) -> None:
    request, blobs = pack_request(conversation)
    back = unpack_request(request, blobs)
    assert back == conversation
    assert back.digest == conversation.digest


def test_media_inside_tool_results_come_back() -> None:
    image, pdf = Image(data=PNG, media_type="image/png"), File(data=b"%PDF-1.7 x", media_type="application/pdf")
    conversation = Conversation(
        [
            Message("tool", [ToolResult("call_1", [Text("see"), image], is_error=True), ToolResult("call_2", "plain")]),
            Message("user", [pdf, image, Text("and?"), Image(url="https://example.com/a.png")]),
        ]
    )
    request, blobs = pack_request(conversation)
    assert list(blobs.values()).count(PNG) == 1
    assert unpack_request(request, blobs) == conversation


def test_short_messages_need_no_blob_and_long_ones_are_referred_to() -> None:
    short, long = Message.user("short"), Message.system("long " * 1_000)
    request, blobs = pack_request(Conversation([long, short, long]))
    assert len(blobs) == 1
    assert len(request) < 200
    assert unpack_request(request, blobs) == Conversation([long, short, long])


def test_a_missing_or_changed_blob_is_never_another_prompt() -> None:
    request, blobs = pack_request(Conversation.system("long " * 1_000).user("x", image=PNG).load())
    for digest in blobs:
        with pytest.raises(KeyError):
            unpack_request(request, {other: data for other, data in blobs.items() if other != digest})
        with pytest.raises(DamagedEntryError, match="digest"):
            unpack_request(request, {**blobs, digest: blobs[digest][:-1] + b"?"})
    with pytest.raises(DamagedEntryError):
        unpack_request(request[:-1], blobs)
    with pytest.raises((DamagedEntryError, msgspec.MsgspecError)):
        unpack_request(b"", blobs)


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
