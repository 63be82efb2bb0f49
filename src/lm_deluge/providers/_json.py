"""Reading JSON from servers that may send anything. Nothing here raises on hostile bytes.

An answer of usual size is decoded whole, which is fastest. A large one may be gigabytes as values of Python, so of a
body that holds very many of them the fields that are read are decoded one by one, and the others skipped.
"""

import math
import re
from typing import Any, Generic, TypeVar

import msgspec

from lm_deluge._json import LARGE, JsonReader, NotJson, is_deep, read_leniently, values_in

__all__ = [
    "ABSENT",
    "FirstOf",
    "count",
    "decode_object",
    "fields_of",
    "known_id",
    "known_name",
    "nonempty",
    "objects",
    "shallow",
    "word",
]

_LEVELS = 100  # as in prompts
_LONGEST_NAME = 200
_WORD = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_MAX_COUNT = 2**53 - 1  # the largest integer that every JSON reader keeps
_MOST_VALUES = 2_000_000  # decoded at once: at their worst 150 MB, and a tenth of a second
_MOST_SKIPPED = 10_000_000  # of any body: a decoder holds up all threads while it skips

ABSENT = msgspec.Raw(b"")
"""The default of a field that an answer may lack."""

T = TypeVar("T")

_anything: JsonReader[Any] = JsonReader(Any)


class FirstOf(msgspec.Struct, Generic[T], array_like=True):
    """An array of which only the first item is read."""

    first: T | None = None


def decode_object(data: bytes | str, fields: JsonReader[Any] = _anything) -> dict[str, Any] | None:
    """The JSON object that ``data`` holds, or None. Of an array, its first object: Gemini wraps its errors in one.

    Of a body with millions of values only the fields that are read are kept, and of these only what is not too many
    itself; a body with more than any answer has is None.

    Args:
        data: what a server sent.
        fields: reads a struct of those fields, each as ``msgspec.Raw`` or as ``FirstOf`` a struct of such.
    """
    try:
        decoded = _decoded_large(data, fields) if len(data) > LARGE else _decoded(data)
    except NotJson:
        return None
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    return decoded if isinstance(decoded, dict) else None


def _decoded(data: bytes | str) -> Any:
    try:
        return _anything.read(data)
    except NotJson:
        return read_leniently(data)


def _decoded_large(data: bytes | str, fields: JsonReader[Any]) -> Any:
    whole = data.encode("utf-8", "replace") if isinstance(data, str) else data
    values = values_in(whole, _MOST_SKIPPED)
    if values <= _MOST_VALUES:
        return _anything.read(whole)
    if values > _MOST_SKIPPED:
        raise NotJson("it holds more values than any answer")
    return _kept(fields.read(whole))


def _kept(read: Any) -> Any:
    """The fields that are there, without those that hold too many values."""
    if not isinstance(read, msgspec.Struct):
        return read
    found: dict[str, Any] = {}
    for name in read.__struct_fields__:
        value = getattr(read, name)
        if isinstance(value, FirstOf):
            if value.first is not None:
                found[name] = [_kept(value.first)]
        elif value is not None and value is not ABSENT and values_in(bytes(value), _MOST_VALUES) <= _MOST_VALUES:
            found[name] = _anything.read(value)
    return found


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


def fields_of(value: object) -> dict[str, Any]:
    """``value`` if it is a JSON object; else an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[dict[str, Any]]:
    """The JSON objects of an array; none if it is no array."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def shallow(value: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """``value`` if it can be copied, printed and stored, which what is nested without end cannot."""
    return None if value is None or is_deep(value, _LEVELS) else value


# What a server says of itself reaches reports, tables and warnings.


def word(value: object) -> str | None:
    """A server's word for something: what looks like one, and ``"other"`` for what does not. None for none."""
    text = nonempty(value)
    return text if text is None or _WORD.fullmatch(text) else "other"


def known_name(value: object) -> str | None:
    """A name that a server gives, of bounded length, with ``?`` for what cannot be printed. None for none."""
    text = nonempty(value)
    if text is None or (len(text) <= _LONGEST_NAME and text.isprintable()):
        return text
    return "".join(character if character.isprintable() else "?" for character in text[:_LONGEST_NAME])


def known_id(value: object) -> str | None:
    """A server's id of something, if it looks like one."""
    text = nonempty(value)
    return text if text is not None and len(text) <= _LONGEST_NAME and text.isprintable() else None
