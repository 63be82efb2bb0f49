"""Reading JSON from servers that may send anything. Nothing here raises on hostile bytes."""

import json
import math
from typing import Any

import msgspec

__all__ = ["count", "decode_object", "nonempty", "objects"]

_MAX_COUNT = 2**53 - 1  # the largest integer that every JSON reader keeps


def decode_object(data: bytes | str) -> dict[str, Any] | None:
    """The JSON object that ``data`` holds, or None. Of an array, its first object: Gemini wraps its errors in one."""
    try:
        decoded = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError):
        decoded = _decode_leniently(data)
    except RecursionError:
        return None
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    return decoded if isinstance(decoded, dict) else None


def _decode_leniently(data: bytes | str) -> Any:
    """What a strict reader refuses though an answer was paid for: half an emoji, ``NaN``, a raw control character."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig", "replace")
        decoded = json.loads(text, strict=False, parse_constant=lambda _: None, parse_float=_finite)
        return msgspec.json.decode(json.dumps(decoded, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):  # JSONDecodeError, DecodeError and UnicodeError are ValueErrors
        return None


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


def count(value: object) -> int:
    """A number of tokens: 0 for anything that is not a number of them."""
    if isinstance(value, float) and math.isfinite(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return min(max(value, 0), _MAX_COUNT)


def nonempty(value: object) -> str | None:
    """``value`` if it is a string with something in it."""
    return value if isinstance(value, str) and value else None


def objects(value: object) -> list[dict[str, Any]]:
    """The JSON objects of an array; none if it is no array."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
