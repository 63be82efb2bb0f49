"""How stored answers are best packed: ``python -m benchmarks.codec``. Zstandard is measured where it is installed."""

import importlib
import time
import zlib
from collections.abc import Callable
from typing import Any

import msgspec

from benchmarks import workload
from lm_deluge import APIResponse, Message, Usage
from lm_deluge.cache import codec
from lm_deluge.cache._dictionary import DICTIONARY_1

_COUNT = 3_000
_ROUNDS = 4


def _answer(number: int) -> bytes:
    text = workload.answer(number)
    body = {
        "id": f"chatcmpl-{number * 7919:024d}",
        "object": "chat.completion",
        "model": "gpt-4.1-mini-2025-04-14",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 100},
    }
    return msgspec.msgpack.encode(
        APIResponse(
            model_internal="gpt-4.1-mini",
            model_external="gpt-4.1-mini-2025-04-14",
            content=Message.ai(text),
            usage=Usage(input_tokens=100, output_tokens=100),
            cost=1e-4,
            finish_reason="stop",
            status_code=200,
            response_id=str(body["id"]),
            raw_body=msgspec.json.encode(body),
        )
    )


def _default_deflate(plain: bytes) -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, DICTIONARY_1)
    return deflate.compress(plain) + deflate.flush()


def _ways() -> dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]]:
    ways: dict[str, tuple[Any, Any]] = {
        "deflate, as stored": (codec.compress, codec.decompress),
        "deflate, default window": (_default_deflate, codec.decompress),
    }
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        return ways
    words = zstandard.ZstdCompressionDict(DICTIONARY_1, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    compressor = zstandard.ZstdCompressor(level=3, dict_data=words, write_dict_id=False)
    ways["zstandard 3"] = (compressor.compress, zstandard.ZstdDecompressor(dict_data=words).decompress)
    return ways


def _microseconds(function: Callable[[bytes], bytes], items: list[bytes]) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.process_time()
        for item in items:
            function(item)
        best = min(best, time.process_time() - began)
    return best / len(items) * 1e6


def main() -> None:
    """Print bytes and microseconds an answer, for each way."""
    plain = [_answer(number) for number in range(_COUNT)]
    print(f"{'plain':26}{sum(map(len, plain)) / _COUNT:8.0f} B")
    for name, (pack, unpack) in _ways().items():
        packed = [pack(item) for item in plain]
        size = sum(map(len, packed)) / _COUNT
        print(f"{name:26}{size:8.0f} B {_microseconds(pack, plain):7.1f} us {_microseconds(unpack, packed):7.1f} us")


if __name__ == "__main__":
    main()
