"""Random prompts of every kind of part, as Hypothesis strategies."""

from typing import Any

from hypothesis import strategies as st

from lm_deluge.config import SamplingParams
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
from lm_deluge.tool import Tool

texts = st.one_of(st.sampled_from(["", " ", "\n\t", "Hi", "What is 2+2?"]), st.text(max_size=12))
words = st.text(min_size=1, max_size=8, alphabet="abcXYZ019_-")
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
json_objects = st.dictionaries(st.text(max_size=5), json_values, max_size=3)

text_parts = texts.map(Text)
kinds = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\x00\x00\x00\x00WEBP")
images = st.one_of(
    st.builds(
        Image,
        data=st.builds(bytes.__add__, st.sampled_from(kinds), st.binary(max_size=12)),
        detail=st.sampled_from([None, "low", "high", "auto"]),
    ),
    st.just(Image(url="https://example.com/a.png")),
)
loaded_files = st.one_of(
    st.builds(
        File,
        data=st.binary(max_size=12).map(b"%PDF-".__add__),
        media_type=st.just("application/pdf"),
        filename=st.sampled_from([None, "a.pdf"]),
    ),
    st.builds(File, data=words.map(str.encode), media_type=st.sampled_from(["text/plain", "text/markdown"])),
)
file_urls = st.just(File(url="https://example.com/a.pdf"))
tool_calls = st.builds(ToolCall, words, words, json_objects)
tool_results = st.builds(ToolResult, words, texts | st.lists(text_parts | images, max_size=3).map(tuple), st.booleans())
thinking = st.one_of(
    st.builds(Thinking, texts, st.sampled_from([None, "", "sig"])), words.map(lambda data: Thinking(redacted=data))
)
blocks = st.sampled_from(
    [
        ProviderBlock("anthropic", {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}),
        ProviderBlock("elsewhere", {"type": "odd"}),
    ]
)

system_messages = st.lists(text_parts, max_size=3).map(lambda parts: Message("system", parts))
assistant_messages = st.lists(text_parts | thinking | tool_calls | blocks, max_size=4).map(
    lambda parts: Message("assistant", parts)
)
tool_messages = st.lists(tool_results, min_size=1, max_size=3).map(lambda parts: Message("tool", parts))


def user_messages(files: st.SearchStrategy[File]) -> st.SearchStrategy[Message]:
    return st.lists(text_parts | images | files | tool_results, max_size=4).map(lambda parts: Message("user", parts))


def conversations(files: st.SearchStrategy[File] = loaded_files) -> st.SearchStrategy[Conversation]:
    """Conversations that hold at least one text somebody can answer."""
    messages = st.lists(system_messages | assistant_messages | tool_messages | user_messages(files), max_size=6)
    return messages.map(lambda found: Conversation([*found, Message.user("And so?")]))


tools = st.lists(
    st.builds(
        Tool,
        name=words,
        description=texts,
        parameters=st.dictionaries(words, st.just({"type": "string"}), max_size=2),
        strict=st.sampled_from([None, True, False]),
    ),
    max_size=3,
)
params = st.builds(
    SamplingParams,
    temperature=st.none() | st.sampled_from([0, 0.5, 1.0]),
    top_p=st.none() | st.just(0.9),
    max_new_tokens=st.none() | st.integers(1, 9_000),
    json_mode=st.booleans(),
    reasoning_effort=st.sampled_from([None, "none", "minimal", "low", "medium", "high", "xhigh", "max"]),
    thinking_budget=st.none() | st.integers(1_024, 9_000),
    logprobs=st.booleans(),
    seed=st.none() | st.integers(0, 9),
    stop=st.lists(words, max_size=2).map(tuple),
)
schemas = st.none() | st.just({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
tool_choices = st.sampled_from([None, "auto", "none", "required", "f"])

_USERS_BLOCKS: dict[tuple[str, str], dict[str, Any]] = {
    ("anthropic", "user"): {
        "type": "search_result",
        "source": "https://example.com",
        "title": "Found",
        "content": [{"type": "text", "text": "Here"}],
    },
    ("anthropic", "assistant"): {"type": "server_tool_use", "id": "srvtoolu_2", "name": "web_search", "input": {}},
    ("openai-chat", "user"): {"type": "text", "text": "Here"},
    ("openai-chat", "assistant"): {"type": "text", "text": "There"},
}


@st.composite
def conversations_with_breakpoints(
    draw: st.DrawFn, wire: str, field: str, files: st.SearchStrategy[File]
) -> Conversation:
    """Conversations in which the user has set up to four breakpoints, in blocks that only one wire format knows.

    Args:
        wire: the wire format of the blocks.
        field: how a breakpoint is written there, as ``Caching.breakpoint_field`` names it.
        files: the files among the messages.
    """
    messages: list[tuple[Any, list[Any]]] = [
        (message.role, list(message.parts)) for message in draw(conversations(files)).messages
    ]
    homes = [parts for role, parts in messages if role in ("user", "assistant")]
    breakpoints = draw(st.integers(0, 4))
    for _ in range(breakpoints):
        parts = draw(st.sampled_from(homes))
        parts.insert(draw(st.integers(0, len(parts))), None)
    # The longest lifetimes come first, or the user's own breakpoints would be refused.
    lasting = draw(st.integers(0, breakpoints))
    for role, parts in messages:
        for place in (place for place, part in enumerate(parts) if part is None):
            breakpoint_: dict[str, str] = {"type": "ephemeral"} if field == "cache_control" else {"mode": "explicit"}
            if field == "cache_control" and lasting > 0:
                breakpoint_["ttl"] = "1h"
            lasting -= 1
            parts[place] = ProviderBlock(wire, {**_USERS_BLOCKS[wire, role], field: breakpoint_})
    return Conversation([Message(role, parts) for role, parts in messages])
