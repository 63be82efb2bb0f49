"""A request as the sequence of positions the model reads: tools, then system, then messages.

Token counts, breakpoints and prefix digests are all statements about this sequence.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from lm_deluge.testing.anthropic_messages import shapes
from lm_deluge.testing.decoding import Path
from lm_deluge.testing.tokens import IMAGE_TOKENS, PDF_TOKENS, count_tokens

__all__ = ["Level", "Position", "breakpoints", "content_digest", "positions"]

Level: TypeAlias = Literal["tools", "system", "messages"]


class Position(msgspec.Struct, frozen=True):
    """One block of the prompt.

    Attributes:
        level: the part of the request it belongs to.
        role: the role of its message; the level's name elsewhere.
        message: the index of its message; -1 elsewhere.
        path: its place in the body.
        block: the block itself.
    """

    level: Level
    role: str
    message: int
    path: Path
    block: Any

    @property
    def cacheable(self) -> bool:
        """Whether a breakpoint may stand on it."""
        if isinstance(self.block, shapes.Thinking | shapes.RedactedThinking):
            return False
        return not (isinstance(self.block, shapes.Text) and not self.block.text)

    @property
    def tokens(self) -> int:
        return _tokens(self.block)

    @property
    def digest(self) -> bytes:
        """A digest of the block and its role, without breakpoints."""
        content = msgspec.json.encode(_without_breakpoints(msgspec.to_builtins(self.block)))
        return hashlib.blake2b(self.role.encode() + b"\0" + content, digest_size=16).digest()


def positions(request: shapes.CountTokensRequest, tools: list[shapes.Tool | shapes.ServerTool]) -> list[Position]:
    """The positions of a request in render order."""
    result = [Position("tools", "tools", -1, ("tools", index), tool) for index, tool in enumerate(tools)]
    for index, block in enumerate(_blocks(request.system)):
        result.append(Position("system", "system", -1, ("system", index), block))
    for number, message in enumerate(request.messages):
        role = str(message.__struct_config__.tag)
        for index, each in enumerate(_blocks(message.content)):
            result.append(Position("messages", role, number, ("messages", number, "content", index), each))
    return result


def breakpoints(position: Position) -> list[tuple[Path, str]]:
    """The breakpoints on a position as (place, ttl); those inside a tool result first, as they stand in the text."""
    found: list[tuple[Path, str]] = []
    block = position.block
    if isinstance(block, shapes.ToolResult) and not isinstance(block.content, str):
        for index, inner in enumerate(block.content):
            if inner.cache_control is not None:
                found.append(((*position.path, "content", index), inner.cache_control.ttl))
    control = getattr(block, "cache_control", None)
    if control is not None:
        found.append((position.path, control.ttl))
    return found


def content_digest(sequence: list[Position]) -> bytes:
    """A digest of what the blocks say, without the request's other settings."""
    chain = hashlib.blake2b(digest_size=16)
    for position in sequence:
        chain.update(position.digest)
    return chain.digest()


def _blocks(content: str | list[Any]) -> list[Any]:
    """A string stands for one text block."""
    if isinstance(content, str):
        return [shapes.Text(text=content)] if content else []
    return content


def _tokens(block: Any) -> int:
    match block:
        case shapes.Text(text=text):
            return count_tokens(text)
        case shapes.Image():
            return IMAGE_TOKENS
        case shapes.Document():
            return _document_tokens(block)
        case shapes.SearchResult(title=title, source=source, content=content):
            return count_tokens(title) + count_tokens(source) + _content_tokens(content)
        case shapes.ToolUse(name=name, input=arguments):
            return count_tokens(name) + count_tokens(msgspec.json.encode(arguments).decode())
        case shapes.ToolResult(content=content):
            return _content_tokens(content)
        case shapes.Thinking(thinking=thinking):
            return count_tokens(thinking)
        case _:
            return count_tokens(msgspec.json.encode(_without_breakpoints(msgspec.to_builtins(block))).decode())


def _content_tokens(content: str | Sequence[Any]) -> int:
    return count_tokens(content) if isinstance(content, str) else sum(map(_tokens, content))


def _document_tokens(block: shapes.Document) -> int:
    around = count_tokens(block.title or "") + count_tokens(block.context or "")
    match block.source:
        case shapes.PlainText(data=data):
            return around + count_tokens(data)
        case shapes.ContentSource(content=content):
            return around + _content_tokens(content)
        case _:
            return around + PDF_TOKENS


def _without_breakpoints(value: Any) -> Any:
    """Builtins without their breakpoints, in the two places where a block may carry one."""
    if "cache_control" in value or isinstance(value.get("content"), list):
        value = {name: each for name, each in value.items() if name != "cache_control"}
        if isinstance(value.get("content"), list):
            value["content"] = [
                _without_breakpoints(each) if isinstance(each, dict) else each for each in value["content"]
            ]
    return value
