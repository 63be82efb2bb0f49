"""Good inputs with a few faults in them, as Hypothesis strategies: changed bytes, and changed trees of plain data.

Hypothesis shrinks a fault to the fewest and smallest edits of the first good input, so what is found can be read.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st

from ..security import nonsense

__all__ = [
    "JSON_ODD",
    "MOST_BYTES",
    "PACKED_ODD",
    "Edit",
    "any_of",
    "bytes_like",
    "edited",
    "edited_bytes",
    "tree_edits",
    "trees_like",
]

MOST_BYTES = 512 * 1024
"""The largest input. Limits of what is promised per byte show below it as well."""

T = TypeVar("T")
Edit = tuple[str, int, Any]

_places = st.integers(0, 2**16 - 1)


def any_of(values: Sequence[T]) -> st.SearchStrategy[T]:
    """One of some values, which may be too large for Hypothesis to show."""
    return st.integers(0, len(values) - 1).map(values.__getitem__)


# Bytes

_TOKENS = [
    b"\x00", b"\xff", b"\x80", b"\n", b"\r\n", b"\n\n", b"\r", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\",
    b"\xef\xbb\xbf", b"\xc1", b"\x91", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\x7f\xff\xff\xff",
    b"NaN", b"1e999", b"-0", b"\x1b[2J", b"\xe2\x80\xae", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"data: ", b": ",
    b"[DONE]", b"null", b"true", b"{}", b"[]", b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x00\x00\x00\x00\x00\x00\x00\x00",
]  # fmt: skip
_token = st.sampled_from(_TOKENS) | st.binary(min_size=1, max_size=8)
_BYTE_EDIT: st.SearchStrategy[Edit] = st.one_of(
    st.tuples(st.just("flip"), _places, st.integers(0, 7)),
    st.tuples(st.just("put"), _places, _token),
    st.tuples(st.just("insert"), _places, _token),
    st.tuples(st.just("cut"), _places, st.integers(1, 64)),
    st.tuples(st.just("end"), _places, st.just(0)),
    st.tuples(st.just("again"), _places, st.tuples(st.integers(1, 200), st.integers(2, 300))),
)


def edited_bytes(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Bytes with edits done to them, each at a place that counts round the end."""
    out = bytearray(data)
    for how, place, what in edits:
        at = place % (len(out) + 1)
        match how:
            case "flip":
                out[at : at + 1] = bytes(byte ^ 1 << what for byte in out[at : at + 1])
            case "put":
                out[at : at + len(what)] = what
            case "insert":
                out[at:at] = what
            case "cut":
                del out[at : at + what]
            case "end":
                del out[at:]
            case "again":
                size, times = what
                out[at:at] = out[at : at + size] * times
        del out[MOST_BYTES:]
    return bytes(out)


def bytes_like(samples: Sequence[bytes], *, most: int = 4, least: int = 0) -> st.SearchStrategy[bytes]:
    """Samples with some bytes changed."""
    return st.builds(edited_bytes, any_of(samples), st.lists(_BYTE_EDIT, min_size=least, max_size=most))


def edited(cases: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Now and then, a changed byte in what another strategy has made."""
    return st.builds(edited_bytes, cases, st.just([]) | st.just([]) | st.lists(_BYTE_EDIT, max_size=2))


# Trees

_WORDS = [
    "", "user", "assistant", "system", "tool", "text", "image", "file", "tool_call", "tool_result", "thinking",
    "provider", "redacted_thinking", "tool_use", "image_url", "refusal", "stop", "ping", "error", "[DONE]",
    "/etc/passwd", "file:///etc/passwd", "\x00", "\x1b[2J\x07", "\u202e\u200b", "\U0001f600", "a" * 5_000, "é" * 700,
    "data:image/png;base64,AAAA", "http://127.0.0.1:9/x", "line:" + "0" * 64, "blob:sha256:" + "0" * 64,
]  # fmt: skip
_NUMBERS: list[Any] = [0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0.0, -0.0, 1e308, 5e-324, 0.5]
_PLAIN: list[Any] = [None, True, False, [], {}, [[]], [{}], [None], {"": None}, {"type": "text"}, *_NUMBERS, *_WORDS]

_DEEP = (60, 90, 120, 300, 990, 5_000, 100_000)
JSON_ODD = [
    *(msgspec.Raw(b"[" * levels + b"]" * levels) for levels in _DEEP),
    *(msgspec.Raw(b'{"a":' * levels + b"1" + b"}" * levels) for levels in _DEEP),
    *map(
        msgspec.Raw,
        (b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 5_000, b"0." + b"1" * 5_000, b'"\\ud800"', b'"\\u0000"'),
    ),
    *map(
        msgspec.Raw,
        (b'{"a":1,"a":2}', b'{"type":"text","type":"image","text":"x"}', b'"\x00"', b'"\xff\xfe"', b"[1,]", b""),
    ),
    msgspec.Raw(b"[" + b"{}," * 20_000 + b"{}]"),
]
"""What no encoder would write."""

PACKED_ODD = [
    *(msgspec.Raw(b"\x91" * levels + b"\xc0") for levels in _DEEP),
    *(msgspec.Raw(b"\x81\xa1a" * levels + b"\xc0") for levels in _DEEP),
    *map(
        msgspec.Raw,
        (b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\x7f\xff\xff\xff"),
    ),
    *map(
        msgspec.Raw,
        (b"\xd4\x01\x00", b"\xc7\x00\xff", b"\xd6\xff\x00\x00\x00\x00", b"\xa2\xff\xfe", b"\x82\xa1a\x01\xa1a\x02"),
    ),
    msgspec.Raw(b"\xdd" + (20_000).to_bytes(4, "big") + b"\x80" * 20_000),
]
"""The same in MessagePack."""

_keys = nonsense.keys


def tree_edits(odd: Sequence[Any], *, most: int = 3, least: int = 0) -> st.SearchStrategy[list[Edit]]:
    """Edits of plain data."""
    value = any_of(_PLAIN) | any_of(odd) | nonsense.scalars
    edit = st.one_of(
        st.tuples(st.just("set"), _places, value),
        st.tuples(st.just("set"), _places, value),
        st.tuples(st.just("drop"), _places, st.none()),
        st.tuples(st.just("add"), _places, st.tuples(_keys, value)),
        st.tuples(st.just("rename"), _places, _keys),
        st.tuples(st.just("copy"), _places, _places),
        st.tuples(st.just("wrap"), _places, st.booleans()),
        st.tuples(st.just("again"), _places, st.integers(2, 40)),
    )
    return st.lists(edit, min_size=least, max_size=most)


def edited_tree(tree: Any, edits: Sequence[Edit]) -> Any:
    """Plain data with edits done to them, as long as they stay small. The data are changed."""
    box = [tree]
    for how, place, what in edits:
        found = list(_nodes(box))
        holder, key = found[place % len(found)]
        node = holder[key]
        match how:
            case "set":
                holder[key] = _copy(what)  # strategies give the same object again and again
            case "drop":
                if holder is not box:
                    del holder[key]
            case "add":
                name, value = what[0], _copy(what[1])
                if isinstance(node, dict):
                    node[name] = value
                elif isinstance(node, list):
                    node.append(value)
                else:
                    holder[key] = value
            case "rename":
                if isinstance(holder, dict):
                    holder[what] = holder.pop(key)
            case "copy":
                other, name = found[what % len(found)]
                if _weight(other[name]) < MOST_BYTES // 8:
                    holder[key] = _copy(other[name])
            case "wrap":
                holder[key] = {"type": "text", "text": node} if what else [node]
            case "again":
                times = min(what, MOST_BYTES // 4 // _weight(node))
                if isinstance(node, str):
                    holder[key] = node * (times or 1)
                elif isinstance(holder, list) and holder is not box:
                    holder[key:key] = [_copy(node) for _ in range(times)]
    return box[0]


def _weight(value: Any) -> int:
    """About how many bytes a value takes, encoded."""
    if isinstance(value, (dict, list)):
        held = [*value, *value.values()] if isinstance(value, dict) else value
        return 2 + sum(map(_weight, held))
    return (
        len(bytes(value))
        if isinstance(value, msgspec.Raw)
        else 2 + len(value)
        if isinstance(value, (str, bytes))
        else 8
    )


def _nodes(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Where each value of a tree is kept."""
    todo = [holder]
    while todo:
        some = todo.pop()
        for key, value in some.items() if isinstance(some, dict) else enumerate(some):
            yield some, key
            if isinstance(value, (dict, list)):
                todo.append(value)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def trees_like(
    samples: Sequence[Any], encode: Callable[[Any], bytes], odd: Sequence[Any] = JSON_ODD, *, most: int = 3
) -> st.SearchStrategy[bytes]:
    """Encoded samples of plain data with some nodes changed.

    Args:
        samples: plain data.
        encode: makes the input of them. What it cannot encode is no case, and becomes an empty one.
        odd: values to put in beside plain ones.
        most: edits at most.
    """
    kept = [msgspec.msgpack.encode(sample) for sample in samples]

    def made(sample: bytes, edits: Sequence[Edit]) -> bytes:
        try:
            return encode(edited_tree(msgspec.msgpack.decode(sample), edits))[:MOST_BYTES]
        except (TypeError, ValueError, OverflowError, UnicodeError, RecursionError, msgspec.MsgspecError):
            return b""

    return st.builds(made, any_of(kept), tree_edits(odd, most=most))
