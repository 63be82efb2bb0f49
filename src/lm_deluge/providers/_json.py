"""Reading JSON from servers that may send anything. Nothing here raises on hostile bytes.

An answer of usual size is decoded whole, which is fastest. A large one may be gigabytes as values of Python, so of a
body that holds very many of them the fields that are read are decoded one by one, and the others skipped.
"""

import math
import re
from typing import Any

import msgspec

from lm_deluge._json import LARGE, JsonReader, NotJson, is_deep, read_leniently, values_in

__all__ = ["count", "decode_object", "known_id", "known_name", "nonempty", "objects", "shallow", "word"]

_LEVELS = 100  # as in prompts
_LONGEST_NAME = 200
_WORD = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_MAX_COUNT = 2**53 - 1  # the largest integer that every JSON reader keeps
_MOST_VALUES = 2_000_000  # decoded at once: at their worst 150 MB, and a tenth of a second
_MOST_SKIPPED = 10_000_000  # of any body: a decoder holds up all threads while it skips

_NONE = msgspec.Raw(b"")
_anything: JsonReader[Any] = JsonReader(Any)


class _Choice(msgspec.Struct):
    """What is read of a choice whose other fields are skipped."""

    index: msgspec.Raw = _NONE
    message: msgspec.Raw = _NONE
    finish_reason: msgspec.Raw = _NONE
    error: msgspec.Raw = _NONE


class _Choices(msgspec.Struct, array_like=True):
    """The first choice of an array; those after it are skipped."""

    first: _Choice | None = None


class _Answer(msgspec.Struct):
    """What is read of an answer, in any wire format."""

    id: msgspec.Raw = _NONE
    type: msgspec.Raw = _NONE
    role: msgspec.Raw = _NONE
    model: msgspec.Raw = _NONE
    usage: msgspec.Raw = _NONE
    service_tier: msgspec.Raw = _NONE
    error: msgspec.Raw = _NONE
    content: msgspec.Raw = _NONE
    stop_reason: msgspec.Raw = _NONE
    diagnostics: msgspec.Raw = _NONE
    choices: _Choices | None = None


_answer: JsonReader[_Answer] = JsonReader(_Answer)


def decode_object(data: bytes | str) -> dict[str, Any] | None:
    """The JSON object that ``data`` holds, or None. Of an array, its first object: Gemini wraps its errors in one.

    Of a body with millions of values only the fields that are read are kept, and of these only what is not too many
    itself; a body with more than any answer has is None.
    """
    try:
        decoded = _decoded_large(data) if len(data) > LARGE else _decoded(data)
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


def _decoded_large(data: bytes | str) -> Any:
    whole = data.encode("utf-8", "replace") if isinstance(data, str) else data
    values = values_in(whole, _MOST_SKIPPED)
    if values <= _MOST_VALUES:
        return _anything.read(whole)
    if values > _MOST_SKIPPED:
        raise NotJson("it holds more values than any answer")
    answer = _answer.read(whole)
    first = None if answer.choices is None else answer.choices.first
    return {**_kept(answer), **({} if first is None else {"choices": [_kept(first)]})}


def _kept(fields: msgspec.Struct) -> dict[str, Any]:
    """The fields that are there, without those that hold too many values."""
    found = {
        name: value for name in fields.__struct_fields__ if isinstance(value := getattr(fields, name), msgspec.Raw)
    }
    return {
        name: _anything.read(raw)
        for name, raw in found.items()
        if raw is not _NONE and values_in(bytes(raw), _MOST_VALUES) <= _MOST_VALUES
    }


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
