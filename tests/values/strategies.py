"""Random prompts from a small world, so that equal ones and near misses are common."""

from typing import Any

from hypothesis import strategies as st

from lm_deluge.prompt import (
    Conversation,
    File,
    Image,
    Message,
    Part,
    ProviderBlock,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)

from . import samples

texts = st.sampled_from(["", "a", "b", "ab", " ", '"', '"],["text","', "\\", "\x00", "\n", "é", "user"]) | st.text(
    max_size=2
)
ids = st.sampled_from(["", "1", "a"])
scalars = st.sampled_from([None, True, False, 0, 1, -1, 0.0, 1.0, "", "1", "1.0", "true", "null", 2**64 - 1, -(2**63)])
json_values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["", "a", "1"]), inner, max_size=2),
    max_leaves=4,
)
objects = st.dictionaries(st.sampled_from(["", "a", "b", "1"]), json_values, max_size=3)

contents = st.sampled_from([samples.png(), samples.png(254), samples.JPEG])
images = st.builds(Image, data=contents, detail=st.sampled_from([None, "low"])) | st.builds(
    Image, url=st.sampled_from(["https://a/", "https://a/b"])
)
files = st.builds(
    File, data=st.sampled_from([samples.png(), samples.PDF, b"a"]), filename=st.sampled_from([None, "", "a"])
) | st.just(File(url="https://a/"))
results = st.builds(ToolResult, ids, texts | st.lists(texts.map(Text) | images, max_size=2).map(tuple), st.booleans())
optional = st.sampled_from([None, "", "a"])
parts: st.SearchStrategy[Part] = st.one_of(
    texts.map(Text),
    images,
    files,
    st.builds(ToolCall, ids, ids, objects),
    results,
    st.builds(Thinking, texts, optional, optional),
    st.builds(ProviderBlock, ids, objects),
)
messages = st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), st.lists(parts, max_size=3))
conversations = st.lists(messages, max_size=4).map(Conversation)


def shape(value: Any) -> Any:
    """What a prompt says, as nested tuples in which everything carries its type. Written without the key's code."""
    if isinstance(value, Conversation):
        return tuple(shape(message) for message in value.messages)
    if isinstance(value, Message):
        return value.role, tuple(shape(part) for part in value.parts)
    if isinstance(value, (Image, File)):
        extra = value.detail if isinstance(value, Image) else value.filename
        return type(value).__name__, value.data, value.url, extra
    if isinstance(value, ToolCall):
        return "call", value.id, value.name, shape(value.arguments)
    if isinstance(value, ToolResult):
        return "result", value.tool_call_id, shape(value.result), value.is_error
    if isinstance(value, Thinking):
        return "thinking", value.text, value.signature, value.redacted
    if isinstance(value, ProviderBlock):
        return "block", value.wire, shape(value.block)
    if isinstance(value, Text):
        return "text", value.text
    if isinstance(value, dict):
        return "object", tuple(sorted((key, shape(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return "array", tuple(shape(item) for item in value)
    return type(value).__name__, repr(value)
