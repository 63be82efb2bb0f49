"""Stored bytes: old ones stay readable, and damaged or hostile ones are refused and nothing else."""

import hashlib
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge.cache import codec
from lm_deluge.cache._dictionary import DICTIONARY_1
from lm_deluge.cache.codec import UNKNOWN, Decoded, compress, decode, decompress, encode
from lm_deluge.errors import DamagedEntryError
from lm_deluge.prompt import Image, Message, ProviderBlock, Text, Thinking, ToolCall, ToolResult
from lm_deluge.response import APIResponse
from lm_deluge.usage import Usage

from . import strategies as some

GOLDEN = Path(__file__).parent / "golden"
KEY = bytes(range(32))
CREATED, FINGERPRINT = 1_790_000_000.25, b"\x01\x02\x03\x04\x05\x06\x07\xff"

FULL = APIResponse(
    model_internal="claude-sonnet-4-5",
    model_external="claude-sonnet-4-5-20250929",
    content=Message(
        "assistant",
        [
            Thinking("Let me see.", "EqQBCkYICxgCKkA="),
            Thinking(redacted="EmwKAhgBEgy3va3pzix"),
            Text("It is 4 — naïvely."),
            ToolCall("toolu_01", "add", {"a": 2, "b": [2.5, True, None, "x"], "n": 2**63}),
            ToolResult("toolu_01", [Text("4"), Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png")]),
            ProviderBlock("anthropic", {"type": "server_tool_use", "input": {}}),
        ],
    ),
    usage=Usage(
        input_tokens=12,
        output_tokens=34,
        cache_read_tokens=20_000,
        cache_write_tokens=5,
        cache_write_1h_tokens=2,
        reasoning_tokens=30,
    ),
    cost=0.0123,
    finish_reason="tool_calls",
    logprobs=[{"token": "It", "logprob": -0.25, "bytes": [73, 116], "top_logprobs": []}],
    status_code=200,
    response_id="msg_01XFDUDYJgAACzvnptvVoYEL",
    raw_body=b'{"id":"msg_01XFDUDYJgAACzvnptvVoYEL","type":"message"}',
)


def sealed(plain: bytes) -> bytes:
    """An entry whose checksum is right, as somebody who can write to a shared store could make it."""
    checked = struct.pack("<d8s", CREATED, FINGERPRINT) + compress(plain)
    return b"\x02" + hashlib.blake2b(checked, digest_size=8, key=KEY).digest() + checked


def test_the_dictionary_is_part_of_the_format() -> None:
    assert hashlib.sha256(DICTIONARY_1).hexdigest() == (
        "918800a2eab3df120641234dcec6b8d6e93866921f16520b4c59fbb61bfa1a06"
    )


def test_entries_of_the_format_stay_readable() -> None:
    """The file was written when the format was new; it is never written again."""
    assert decode(KEY, (GOLDEN / "entry_v2.bin").read_bytes()) == Decoded(FULL, CREATED, FINGERPRINT)


def test_a_new_entry_reads_back() -> None:
    assert decode(KEY, encode(KEY, FULL, created=CREATED, fingerprint=FINGERPRINT)) == Decoded(
        FULL, CREATED, FINGERPRINT
    )
    assert decode(KEY, encode(KEY, FULL)) == Decoded(FULL, 0.0, UNKNOWN)


def test_costs_of_none_and_zero_stay_apart() -> None:
    for cost in (None, 0.0):
        assert decode(KEY, encode(KEY, msgspec.structs.replace(FULL, cost=cost))).response.cost is cost or cost == 0.0
    assert decode(KEY, encode(KEY, msgspec.structs.replace(FULL, cost=None))).response.cost is None


def test_every_flipped_bit_is_noticed() -> None:
    entry = bytearray(encode(KEY, FULL))
    for bit in range(len(entry) * 8):
        entry[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedEntryError):
            decode(KEY, bytes(entry))
        entry[bit // 8] ^= 1 << bit % 8


def test_every_shorter_and_a_longer_entry_is_refused() -> None:
    entry = encode(KEY, FULL)
    for length in range(len(entry)):
        with pytest.raises(DamagedEntryError):
            decode(KEY, entry[:length])
    with pytest.raises(DamagedEntryError):
        decode(KEY, entry + b"\x00")


def test_another_key_is_refused() -> None:
    entry = encode(KEY, FULL)
    for bit in range(256):
        other = bytearray(KEY)
        other[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedEntryError, match="checksum"):
            decode(bytes(other), entry)


def test_an_unknown_format_says_which_one() -> None:
    for version in ("01", "03"):
        with pytest.raises(DamagedEntryError, match=f"format {version}; 02 is known"):
            decode(KEY, bytes.fromhex(version) + encode(KEY, FULL)[1:])


@given(some.responses)
@settings(deadline=None, max_examples=50)
def test_any_answer_reads_back(response: APIResponse) -> None:
    assert decode(KEY, encode(KEY, response)).response == response


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=150)
def test_arbitrary_bytes_are_damage_and_nothing_else(data: bytes) -> None:
    for entry in (
        data,
        b"\x01" + data,
        sealed(data),
        b"\x01" + hashlib.blake2b(data, digest_size=8, key=KEY).digest() + data,
    ):
        try:
            decode(KEY, entry)
        except DamagedEntryError:
            continue
        # Only an empty map, or one of known fields, is an answer.
        assert entry == sealed(data)
        assert isinstance(msgspec.msgpack.decode(data), dict)


@pytest.mark.parametrize(
    "plain",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xc0", id="null"),
        pytest.param(b"\x80\x80", id="two values"),
        pytest.param(b"\x91" * 100_000 + b"\x80", id="deep nesting"),
        pytest.param(b"\x81\xa7content" + b"\x91" * 5_000, id="nesting in a field"),
        pytest.param(b"\x81\xa8logprobs\xdd\xff\xff\xff\xff", id="array of 4 billion"),
        pytest.param(b"\x81\xa8raw_body\xc6\xff\xff\xff\xff", id="bytes of 4 GB"),
        pytest.param(b"\x81\xa4cost\xa1x", id="wrong type"),
        pytest.param(b"\x81\xa4cost\xc7\x00\x05", id="extension"),
        pytest.param(b"\x81\xaemodel_internal\xa2\xff\xfe", id="not UTF-8"),
        pytest.param(msgspec.msgpack.encode({"content": {"role": "root", "parts": []}}), id="unknown role"),
        pytest.param(
            msgspec.msgpack.encode({"content": {"role": "user", "parts": [{"type": "exec", "code": "x"}]}}),
            id="unknown part",
        ),
        pytest.param(
            msgspec.msgpack.encode(
                {
                    "content": {
                        "role": "user",
                        "parts": [{"type": "tool_call", "id": "", "name": "", "arguments": {"x": b"y"}}],
                    }
                }
            ),
            id="bytes among arguments",
        ),
        pytest.param(
            msgspec.msgpack.encode(
                {
                    "content": {
                        "role": "user",
                        "parts": [{"type": "tool_call", "id": "", "name": "", "arguments": {"x": float("nan")}}],
                    }
                }
            ),
            id="NaN among arguments",
        ),
    ],
)
def test_well_sealed_nonsense_is_damage(plain: bytes) -> None:
    with pytest.raises(DamagedEntryError):
        decode(KEY, sealed(plain))


def test_a_path_in_a_strangers_answer_is_damage(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"\x89PNG\r\n\x1a\n")
    hostile = APIResponse(content=Message("assistant", [Image(path=str(secret))]))
    with pytest.raises(DamagedEntryError, match="local file"):
        decode(KEY, encode(KEY, hostile))


def test_an_entry_that_unpacks_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_MAX_PLAIN_BYTES", 4 * 1024 * 1024)
    bomb = sealed(b"\x00" * 64 * 1024 * 1024)
    assert len(bomb) < 300_000
    tracemalloc.start()
    began = time.thread_time()
    with pytest.raises(DamagedEntryError, match="more than any answer"):
        decode(KEY, bomb)
    seconds = time.thread_time() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024
    assert seconds < 2


@pytest.mark.parametrize("size", [0, 1, 8 * 1024, 8 * 1024 + 1, 64 * 1024 - 1, 64 * 1024, 300_000])
def test_every_way_of_compressing_unpacks(size: int) -> None:
    plain = (b'{"id":"chatcmpl-","object":"chat.completion"}' * (size // 40 + 1))[:size]
    assert decompress(compress(plain)) == plain


def test_what_deflate_cannot_read_is_damage() -> None:
    for packed in (b"", b"\xff" * 20, zlib.compress(b"with a header"), compress(b"x" * 500)[:-3]):
        with pytest.raises(DamagedEntryError):
            decompress(packed)
