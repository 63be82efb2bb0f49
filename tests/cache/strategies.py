"""Random prompts and answers with every kind of part, as Hypothesis strategies."""

from hypothesis import strategies as st

from lm_deluge.prompt import (
    Conversation,
    File,
    Image,
    Message,
    ProviderBlock,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from lm_deluge.response import APIResponse
from lm_deluge.usage import Usage

texts = st.text(max_size=40) | st.text(min_size=1, max_size=20).map(lambda text: text * 200)
words = st.text(min_size=1, max_size=12)
integers = st.integers(-(2**63), 2**64 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(max_size=8), json_values, max_size=3)

plain_texts = texts.map(Text)
images = st.builds(
    Image,
    data=st.binary(max_size=60).map(b"\x89PNG\r\n\x1a\n".__add__),
    media_type=st.just("image/png"),
    detail=st.sampled_from([None, "low", "high"]),
) | st.just(Image(url="https://example.com/a.png"))
files = st.builds(
    File,
    data=st.binary(max_size=60).map(b"%PDF-1.7\n".__add__),
    media_type=st.just("application/pdf"),
    filename=st.none() | words,
)
tool_calls = st.builds(ToolCall, words, words, json_objects)
tool_results = st.builds(
    ToolResult, words, texts | st.lists(plain_texts | images, max_size=3).map(tuple), st.booleans()
)
thinking = st.builds(Thinking, texts, st.none() | texts, st.none() | texts)
blocks = st.builds(ProviderBlock, words, json_objects)
parts = plain_texts | images | files | tool_calls | tool_results | thinking | blocks

messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    st.lists(parts, max_size=4).map(tuple),
)
conversations = st.lists(messages, min_size=1, max_size=4).map(Conversation)

counts = st.integers(0, 2**40)
usages = st.builds(
    Usage,
    input_tokens=counts,
    output_tokens=counts,
    cache_read_tokens=counts,
    cache_write_tokens=counts,
    cache_write_1h_tokens=counts,
    reasoning_tokens=counts,
)
logprobs = st.lists(
    st.fixed_dictionaries(
        {"token": st.text(max_size=5), "logprob": st.floats(allow_nan=False), "top_logprobs": st.just([])}
    ),
    max_size=3,
)
responses = st.builds(
    APIResponse,
    id=st.integers(0, 10**6),
    model_internal=words,
    model_external=st.none() | words,
    content=messages,
    usage=st.none() | usages,
    cost=st.none() | st.just(0.0) | st.floats(0, 100),
    finish_reason=st.none() | st.sampled_from(["stop", "length", "tool_calls"]),
    logprobs=st.none() | logprobs,
    status_code=st.none() | st.just(200),
    local_cache_hit=st.booleans(),
    response_id=st.none() | words,
    raw_body=st.none() | st.binary(max_size=200) | st.just(b'{"id": "chatcmpl-1"}'),
)
