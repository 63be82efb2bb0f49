"""Data that are nearly what they should be, as Hypothesis strategies: right names, wrong types, odd numbers, no end."""

import msgspec
from hypothesis import strategies as st

from lm_deluge.cache.entry import Facts
from lm_deluge.cache.runs import Run
from lm_deluge.events import RunReport
from lm_deluge.prompt import File, Image, Message, ProviderBlock, Text, Thinking, ToolCall, ToolResult
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse
from lm_deluge.usage import Usage

STRUCTS = (
    APIResponse,
    Facts,
    File,
    Image,
    Message,
    Parameters,
    ProviderBlock,
    Run,
    RunReport,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
TAGS = ["text", "image", "file", "tool_call", "tool_result", "thinking", "provider", "node", "exec"]

_names = sorted({name for struct in STRUCTS for name in struct.__struct_encode_fields__})
_own_names = ["messages", "head", "before", "parameters", "scope", "sample", "redacted", "type", "request", "body"]

keys = st.sampled_from([*_names, *_own_names]) | st.text(max_size=3)
numbers = (
    st.sampled_from([0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0.0, -0.0, 1e308, 5e-324]) | st.floats()
)
words = (
    st.sampled_from(
        ["", "user", "assistant", "system", "conversation", "request", "stop", "/etc/passwd", "\x1b[2J", "\x00"]
    )
    | st.sampled_from(TAGS)
    | st.sampled_from(
        ["blob:sha256:", "blob:sha256:" + "0" * 64, "blob:sha256:zz", "line:" + "0" * 64, "file:///etc/passwd"]
    )
    | st.text(max_size=6)
)
scalars = st.none() | st.booleans() | numbers | words | st.binary(max_size=40)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=25,
)


def _part(tag: str) -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(keys, values, max_size=4).map(lambda fields: {**fields, "type": tag})


parts = st.sampled_from(TAGS).flatmap(_part)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]) | words, "parts": st.lists(parts, max_size=3)}
)
"""Messages whose outside is right, so that what is wrong is deep inside."""


def nested(levels: int) -> msgspec.Raw:
    """A list in a list, and so on, as MessagePack; deeper than Python itself could write it."""
    return msgspec.Raw(b"\x91" * levels + b"\xc0")


def packed(value: object) -> bytes:
    """MessagePack of anything that the strategies above make."""
    return msgspec.msgpack.encode(value)
