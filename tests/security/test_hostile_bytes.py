"""Bytes of strangers: stored entries, stored requests, blobs and bundles are what they should be, or damage.

What decodes has to be usable as well: a value that breaks whoever works on it would only move the crash.
"""

import hashlib
import io
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_deluge.cache import codec, record
from lm_deluge.cache.admin.archive import export, load
from lm_deluge.cache.codec import compress, decode, encode
from lm_deluge.cache.record import StoredRequest, refers_of, refers_of_blob, unpack_request
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.errors import CacheError, DamagedEntryError
from lm_deluge.prompt import Conversation, Message
from lm_deluge.response import APIResponse

from ..cache.archive.making import bundle, entry, filled, resealed
from ..cache.helpers import answer
from . import nonsense

KEY = bytes(range(32))
MEGABYTE = 1024 * 1024

fuzzed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
long = settings(deadline=None, max_examples=4_000, suppress_health_check=[HealthCheck.too_slow])


@contextmanager
def within(*, megabytes: float, seconds: float = 5.0) -> Iterator[None]:
    """See that what happens inside takes neither much memory nor long."""
    tracemalloc.start()
    began = time.process_time()
    try:
        yield
        taken = time.process_time() - began
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < megabytes * MEGABYTE
    assert taken < seconds


def sealed(plain: bytes) -> bytes:
    """An entry whose checksum is right, as somebody who can write to a shared store could make it."""
    checked = struct.pack("<d8s", 1.0, bytes(8)) + compress(plain)
    return b"\x02" + hashlib.blake2b(checked, digest_size=8, key=KEY).digest() + checked


def reader(*blobs: bytes) -> Callable[[Sequence[bytes]], Mapping[bytes, bytes]]:
    by_name = {hashlib.sha256(blob).digest(): blob for blob in blobs}
    return lambda names: {name: by_name[name] for name in names if name in by_name}


# Entries


def check_entry(plain: object) -> None:
    try:
        found = decode(KEY, sealed(nonsense.packed(plain)))
    except DamagedEntryError:
        return
    use_response(found.response)


def use_response(response: APIResponse) -> None:
    """What callers and commands do with an answer."""
    repr(response)
    _ = response.completion, response.thinking, response.tool_calls, response.raw_response, response.cache_hit
    assert APIResponse.from_dict(response.to_dict()).content == response.content
    assert decode(KEY, encode(KEY, response)).response.content == response.content
    if response.content is not None:
        assert len(Conversation.user("?").add(response.content).digest) == 32


responses = st.dictionaries(nonsense.keys, nonsense.values, max_size=6) | st.fixed_dictionaries(
    {"content": nonsense.messages}
)


@given(responses | nonsense.values)
@fuzzed
def test_an_entry_is_an_answer_or_damage(plain: object) -> None:
    check_entry(plain)


@pytest.mark.long
@given(responses | nonsense.values)
@long
def test_many_entries_are_answers_or_damage(plain: object) -> None:
    check_entry(plain)


@pytest.mark.parametrize("field", ["logprobs", "content", "usage", "unknown"])
@pytest.mark.parametrize("levels", [90, 400, 990, 5_000])
def test_nesting_is_an_answer_that_can_be_used_or_damage(field: str, levels: int) -> None:
    value: Any = nonsense.nested(levels)
    if field == "content":
        part = {"type": "tool_call", "id": "1", "name": "f", "arguments": {"a": value}}
        value = {"role": "assistant", "parts": [part]}
    check_entry({field: [{"a": value}] if field == "logprobs" else value})


def test_a_small_entry_takes_no_more_memory_than_its_limit_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty objects are the dearest bytes that there are: one byte each, and 64 in memory."""
    limit = MEGABYTE // 8
    monkeypatch.setattr(codec, "_MAX_PLAIN_BYTES", limit)
    bomb = b"\x81\xa8logprobs\xdd" + struct.pack(">I", limit) + b"\x80" * limit
    with within(megabytes=1), pytest.raises(DamagedEntryError, match="more than any answer"):
        decode(KEY, sealed(bomb))
    just_below = b"\x81\xa8logprobs\xdd" + struct.pack(">I", limit - 20) + b"\x80" * (limit - 20)
    with within(megabytes=limit * 80 / MEGABYTE):
        assert len(decode(KEY, sealed(just_below)).response.logprobs or ()) == limit - 20


# Requests and blobs


def check_request(plain: object, *blobs: object) -> None:
    packed = compress(nonsense.packed(plain))
    encoded = [nonsense.packed(blob) for blob in blobs]
    for read in (lambda: refers_of(packed), lambda: unpack_request(packed, reader(*encoded))):
        try:
            found = read()
        except DamagedEntryError:
            continue
        if isinstance(found, StoredRequest):
            assert len(found.conversation.digest) == 32
            repr(found)
            assert found.parameters is None or len(found.parameters.digest) == 32
        else:
            assert all(type(name) is bytes for name in found)
    for blob in encoded:
        assert all(type(name) is bytes for name in refers_of_blob(blob))


requests = st.dictionaries(nonsense.keys, nonsense.values, max_size=6)
named = st.lists(nonsense.messages | nonsense.values, min_size=1, max_size=3)


@given(requests | nonsense.values)
@fuzzed
def test_a_request_is_a_prompt_or_damage(plain: object) -> None:
    check_request(plain)


@given(named, st.dictionaries(nonsense.keys, nonsense.values, max_size=3))
@fuzzed
def test_blobs_of_a_request_are_a_prompt_or_damage(blobs: list[object], more: dict[str, object]) -> None:
    names = [hashlib.sha256(nonsense.packed(blob)).digest() for blob in blobs]
    check_request({**more, "messages": names}, *blobs)
    check_request({"messages": [], "parameters": names[0]}, *blobs)
    node = {"type": "node", "messages": names}
    check_request({"messages": names, "head": hashlib.sha256(nonsense.packed(node)).digest()}, node, *blobs)


@pytest.mark.long
@given(requests | nonsense.values, named)
@long
def test_many_requests_are_prompts_or_damage(plain: object, blobs: list[object]) -> None:
    names = [hashlib.sha256(nonsense.packed(blob)).digest() for blob in blobs]
    check_request(plain, *blobs)
    check_request({"messages": names}, *blobs)


@given(st.binary(max_size=200))
@fuzzed
def test_any_bytes_are_a_blob_that_refers_to_names_or_to_nothing(data: bytes) -> None:
    for blob in (data, b"\x82\xa4type\xa4node\xa8messages" + data, b"\x82\xa4role\xa4user\xa5parts" + data):
        assert all(type(name) is bytes for name in refers_of_blob(blob))


def test_one_long_message_named_a_thousand_times_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine kilobytes that would become two gigabytes."""
    monkeypatch.setattr(record, "_MOST_BYTES", 8 * MEGABYTE)
    message = msgspec.msgpack.encode(Message.user("a" * MEGABYTE))
    name = hashlib.sha256(message).digest()
    request = compress(nonsense.packed({"messages": [name] * 1_000}))
    assert len(request) + len(compress(message)) < 9_000
    with within(megabytes=32), pytest.raises(DamagedEntryError, match="more than any prompt"):
        unpack_request(request, reader(message))


def test_one_image_named_a_thousand_times_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be kept once, but whoever works on the prompt would read it again each time."""
    monkeypatch.setattr(record, "_MOST_BYTES", 8 * MEGABYTE)
    image = b"\x89PNG\r\n\x1a\n" + bytes(MEGABYTE)
    part = {"type": "image", "media_type": "image/png", "url": f"blob:sha256:{hashlib.sha256(image).hexdigest()}"}
    request = compress(nonsense.packed({"messages": [{"role": "user", "parts": [part] * 1_000}]}))
    with pytest.raises(DamagedEntryError, match="more than any prompt"):
        unpack_request(request, reader(image))


def test_many_long_messages_are_damage_before_all_of_them_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_MOST_BYTES", 4 * MEGABYTE)
    blobs = [msgspec.msgpack.encode(Message.user(f"{number}" * 100_000)) for number in range(100, 400)]
    request = compress(nonsense.packed({"messages": [hashlib.sha256(blob).digest() for blob in blobs]}))
    read, asked = reader(*blobs), 0

    def counting(names: Sequence[bytes]) -> Mapping[bytes, bytes]:
        nonlocal asked
        asked += len(names)
        return read(names)

    with pytest.raises(DamagedEntryError, match="more than any prompt"):
        unpack_request(request, counting)
    assert asked < 50


# Bundles


good = bundle(filled(*(entry(Conversation.user(str(number)), answer(number)) for number in range(3))))
ENTRIES = [number for number, line in enumerate(good) if b'"type":"entry"' in line]


def check_bundle(lines: list[bytes]) -> None:
    store = MemoryStore()
    try:
        load(store, io.BytesIO(b"".join(lines)))
    except CacheError:
        assert len(store) == 0
        return
    # What was taken in is sound: it decodes, is the answer to its own request, and can be written out again.
    for stored in store.scan():
        use_response(decode(stored.key, stored.value).response)
        assert not stored.request or unpack_request(stored.request, store.read_blobs).conversation.digest
    assert export(store, lambda line: None).damaged == 0


@given(st.lists(st.binary(max_size=60) | st.sampled_from(good), max_size=6))
@fuzzed
def test_lines_in_any_order_with_anything_between_them_are_taken_or_refused(lines: list[bytes]) -> None:
    check_bundle([good[0], *lines])


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | nonsense.words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(nonsense.keys, inner, max_size=4),
    max_leaves=15,
)


@given(st.sampled_from(ENTRIES), nonsense.keys, json_values)
@fuzzed
def test_a_forged_field_of_an_entry_is_taken_or_refused(place: int, name: str, value: object) -> None:
    check_bundle([*good[:place], resealed(good[place], lambda line: {**line, name: value}), *good[place + 1 :]])


@given(st.sampled_from(ENTRIES), st.sampled_from(["request", "response", "facts"]), nonsense.keys, json_values)
@fuzzed
def test_a_forged_field_inside_an_entry_is_taken_or_refused(place: int, part: str, name: str, value: object) -> None:
    def forge(line: dict[str, Any]) -> dict[str, Any]:
        return {**line, part: {**line[part], name: value}}

    check_bundle([*good[:place], resealed(good[place], forge), *good[place + 1 :]])


@given(st.sampled_from(["media", "message", "prefix", "parameters", "run", "end", "header", "exec"]), json_values)
@fuzzed
def test_a_forged_line_is_taken_or_refused(kind: str, value: object) -> None:
    fields = value if isinstance(value, dict) else {"data": value, "message": value, "messages": value, "run": value}
    line = resealed(good[ENTRIES[0]], lambda _: {**fields, "type": kind})
    check_bundle([good[0], line, *good[1:]])


@pytest.mark.long
@given(st.sampled_from(ENTRIES), nonsense.keys, json_values, st.sampled_from(["", "request", "response", "facts"]))
@settings(long, max_examples=2_000)
def test_many_forged_fields_are_taken_or_refused(place: int, name: str, value: object, part: str) -> None:
    def forge(line: dict[str, Any]) -> dict[str, Any]:
        return {**line, part: {**line[part], name: value}} if part else {**line, name: value}

    check_bundle([*good[:place], resealed(good[place], forge), *good[place + 1 :]])
