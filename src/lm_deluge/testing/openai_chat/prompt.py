"""A request as the sequence of bytes the model reads, four to a token: tools first, then message after message.

Token counts and cache prefixes are both statements about this sequence. Every piece is padded to whole tokens, so that
positions in the bytes are token positions.
"""

import hashlib
from typing import Any

import msgspec
from msgspec import UNSET

from lm_deluge.testing.openai_chat import shapes
from lm_deluge.testing.tokens import BYTES_PER_TOKEN, IMAGE_TOKENS, PDF_TOKENS, count_tokens

__all__ = ["Piece", "pieces", "prompt_tokens", "settings_digest"]

_LOW_DETAIL_TOKENS = 85


class Piece(msgspec.Struct, frozen=True):
    """A part of the prompt.

    Attributes:
        data: its bytes.
        ends_message: whether a message ends with it.
        has_breakpoint: whether it carries an explicit cache breakpoint.
    """

    data: bytes
    ends_message: bool = False
    has_breakpoint: bool = False

    @property
    def tokens(self) -> int:
        return len(self.data) // BYTES_PER_TOKEN


def prompt_tokens(request: shapes.ChatRequest) -> int:
    """All prompt tokens, without building the bytes: tools, one for each message's role, and the content."""
    tokens = count_tokens(_tools_text(request)) + len(request.messages)
    for message in request.messages:
        content = message.content
        if isinstance(content, str):
            tokens += count_tokens(content)
        elif content:
            tokens += sum(_part_tokens(part) for part in content)
        if isinstance(message, shapes.Assistant) and message.tool_calls:
            tokens += sum(count_tokens(_call_text(call)) for call in message.tool_calls)
    return tokens


def pieces(request: shapes.ChatRequest) -> list[Piece]:
    """The prompt in order."""
    result = [Piece(_padded(_tools_text(request)))]
    for message in request.messages:
        role = str(message.__struct_config__.tag)
        found = [Piece(role.encode()[:BYTES_PER_TOKEN].ljust(BYTES_PER_TOKEN, b"\0"))]
        content = message.content
        if isinstance(content, str):
            found.append(Piece(_padded(content)))
        elif content:
            found.extend(Piece(_part_bytes(part), has_breakpoint=_has_breakpoint(part)) for part in content)
        if isinstance(message, shapes.Assistant) and message.tool_calls:
            found.extend(Piece(_padded(_call_text(call))) for call in message.tool_calls)
        found[-1] = msgspec.structs.replace(found[-1], ends_message=True)
        result.extend(found)
    return result


def settings_digest(request: shapes.ChatRequest, credential: str) -> bytes:
    """What separates caches besides the content, by OpenAI's prompt caching guide."""
    settings = [
        credential,
        request.model,
        request.prompt_cache_key,
        request.tools or None,
        request.response_format or None,
        request.reasoning_effort,
        request.verbosity,
        request.parallel_tool_calls if request.parallel_tool_calls is not UNSET else None,
    ]
    return hashlib.blake2b(msgspec.json.encode(settings), digest_size=16).digest()


def _padded(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return data + b"\0" * (-len(data) % BYTES_PER_TOKEN)


def _has_breakpoint(part: Any) -> bool:
    return getattr(part, "prompt_cache_breakpoint", None) is not None


def _part_bytes(part: Any) -> bytes:
    if isinstance(part, shapes.Text):
        return _padded(part.text)
    if _has_breakpoint(part):
        part = msgspec.structs.replace(part, prompt_cache_breakpoint=None)
    digest = hashlib.blake2b(msgspec.json.encode(part), digest_size=32).digest()
    size = _part_tokens(part) * BYTES_PER_TOKEN
    return (digest * (size // len(digest) + 1))[:size]


def _part_tokens(part: Any) -> int:
    match part:
        case shapes.Text(text=text):
            return count_tokens(text)
        case shapes.Refusal(refusal=refusal):
            return count_tokens(refusal)
        case shapes.ImageUrl(image_url=reference):
            return _LOW_DETAIL_TOKENS if reference.detail == "low" else IMAGE_TOKENS
        case _:
            return PDF_TOKENS


def _tools_text(request: shapes.ChatRequest) -> str:
    return msgspec.json.encode(request.tools).decode() if request.tools else ""


def _call_text(call: Any) -> str:
    return msgspec.json.encode(call).decode()
