"""JSON that comes from outside: rows, results, files, entries, answers. This is the only module that decodes any.

Such data may be nested without end, which is a ``RecursionError`` of the decoder and, somewhat below that,
of all that goes on with the value (copying, ``repr``, hashing); or may write numbers that Python refuses to convert.
All of that is data that cannot be read, like a missing bracket.
"""

import json
import math
import re
from typing import Any, Generic, TypeVar

import msgspec

__all__ = [
    "DEPTH",
    "LARGE",
    "JsonReader",
    "NotJson",
    "is_deep",
    "read_json",
    "read_leniently",
    "spelled_out",
    "values_in",
]

T = TypeVar("T")

DEPTH = 200
"""Levels that data from outside may have: more than any real ones, and far from where Python ends."""

LARGE = 1 << 20
"""Bytes above which decoding is work that shows. What is read leniently is no longer than that."""

_DIGITS = 400  # of an integer; Python refuses to convert more than 4,300
_LEVELS = 400  # that a decoder takes wherever the caller stands
_STEP = 1 << 18
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)


class NotJson(ValueError):
    """Data that are no JSON or have another shape; the message says why. Callers make an error of their own of it."""


def read_json(data: bytes | str | msgspec.Raw) -> Any:
    """What the data hold.

    Raises:
        NotJson: they are no JSON, nested too deep, or hold a number that cannot be read.
    """
    value = _decode(data)
    if is_deep(value):
        raise NotJson(_TOO_DEEP)
    return value


class JsonReader(Generic[T]):
    """Reads data of one shape; what the shape does not name is skipped.

    Args:
        kind: the shape. What it leaves open (``Any``) is not checked for its depth.
    """

    def __init__(self, kind: Any) -> None:
        self._decoder = msgspec.json.Decoder(kind)

    def read(self, data: bytes | str | msgspec.Raw) -> T:
        """The value that the data hold.

        Raises:
            NotJson: they are no JSON, or have another shape.
        """
        read: T = _decode(data, self._decoder)
        return read


_TOO_DEEP = f"it is nested more than {DEPTH} levels deep"
_anything = msgspec.json.Decoder()


def _decode(data: bytes | str | msgspec.Raw, decoder: "msgspec.json.Decoder[Any]" = _anything) -> Any:
    try:
        return decoder.decode(data)
    except RecursionError as error:
        raise NotJson(_TOO_DEEP) from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise NotJson(str(error).removeprefix("JSON is malformed: ")) from error


def is_deep(value: object, depth: int = DEPTH) -> bool:
    """Whether a decoded value has more than so many levels."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(depth):
        if not level:
            return False
        found = {
            id(item): item  # each once, for YAML can name one many times over
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, (dict, list))
        }
        level = list(found.values())
    return bool(level)


def spelled_out(value: object, known: dict[int, int] | None = None) -> int:
    """How many values there are with each counted as often as it is named. The data must not be deep."""
    if not isinstance(value, (dict, list)):
        return 1
    known = {} if known is None else known
    if id(value) not in known:
        items = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(spelled_out(item, known) for item in items)
    return known[id(value)]


def values_in(data: bytes, most: int) -> int:
    """About how many values data hold, counted up to ``most`` and in steps, so that other threads go on."""
    found = 0
    for start in range(0, len(data), _STEP):
        end = start + _STEP
        found += data.count(b",", start, end) + data.count(b"{", start, end) + data.count(b"[", start, end)
        if found > most:
            break
    return found


def read_leniently(data: bytes | str) -> Any:
    """What a strict reader refuses though it was paid for; for data that are not ``LARGE``.

    Half an emoji becomes ``?``; ``NaN``, numbers that are not finite or have hundreds of digits, and what lies deeper
    than any answer become null; raw control characters are taken.

    Raises:
        NotJson: the data are no JSON even so.
    """
    text = data if isinstance(data, str) else data.decode("utf-8-sig", "replace")
    try:
        decoded = json.loads(
            _flattened(text), strict=False, parse_constant=lambda _: None, parse_float=_finite, parse_int=_integer
        )
        return _decode(json.dumps(decoded, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError as error:
        raise NotJson(_TOO_DEEP) from error
    except ValueError as error:  # JSONDecodeError and UnicodeError are ValueErrors
        raise NotJson(str(error).removeprefix("JSON is malformed: ")) from error


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= _DIGITS else None


def _flattened(text: str) -> str:
    """The text with null for what lies too deep."""
    if text.count("[") + text.count("{") <= _LEVELS:
        return text
    kept: list[str] = []
    depth = end = 0
    for token in _TOKEN.finditer(text):
        bracket = token[0]
        if bracket in "[{":
            depth += 1
            if depth == _LEVELS + 1:
                kept.append(text[end : token.start()])
        elif bracket in "]}":
            if depth == _LEVELS + 1:
                kept.append("null")
                end = token.end()
            depth -= 1
    return "".join(kept) + text[end:] if depth <= _LEVELS else text
