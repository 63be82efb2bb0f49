"""The blocks of a prompt, which are what a provider's cache sees of it, and what may stand on each."""

from typing import Literal, NamedTuple, TypeAlias

import msgspec

from lm_deluge.prompt import Conversation, File, Image, Message, Part, ProviderBlock, Text, ToolCall, ToolResult
from lm_deluge.providers import BREAKPOINT_STYLES, WireFormat, is_blank
from lm_deluge.tool import Tool

__all__ = ["Block", "Link", "Place", "can_carry_breakpoint", "rough_tokens", "run_of"]

Place: TypeAlias = tuple[Literal["tools", "messages"], int, int]
"""Section, index and part, as in a breakpoint."""

_IMAGE_TOKENS = 1_600  # Anthropic, vision guide: a picture at full size


class Block(NamedTuple):
    """One piece of a prompt that a provider reads.

    Attributes:
        place: where it stands, as in a breakpoint.
        role: ``"tools"``, ``"system"``, ``"user"`` or ``"assistant"``; tool results count as the user's.
        value: the tool or the part.
    """

    place: Place
    role: str
    value: Tool | Part

    @property
    def message(self) -> Place:
        """Which message of Chat Completions it belongs to, by the place of one of its blocks: results have one each."""
        section, index, part = self.place
        if isinstance(self.value, ToolResult):
            return (section, index, part)
        return (section, -1 if section == "tools" else index, -1)

    @property
    def own_breakpoint(self) -> str | None:
        """The lifetime of a breakpoint that the user wrote into a provider's own block; None where there is none."""
        if not isinstance(self.value, ProviderBlock):
            return None
        for field, style in BREAKPOINT_STYLES.items():
            if isinstance(written := self.value.block.get(field), dict):
                return str(written.get("ttl") or style.default_ttl)
        return None


def run_of(value: Tool | Part) -> str | None:
    """The kind of run that a part may belong to, one block of a look-back: calls or results, or None."""
    if isinstance(value, ToolCall):
        return "calls"
    return "results" if isinstance(value, ToolResult) else None


def can_carry_breakpoint(part: Part) -> bool:
    """Whether a provider takes a breakpoint on this part: not on thinking, and not on empty text.

    Anthropic, prompt caching guide. A block that only one provider knows gets none either, for most of those take none.
    """
    if isinstance(part, Text):
        return not is_blank(part.text)  # providers count blank text as empty
    return isinstance(part, (Image, File, ToolCall, ToolResult))


class Link(NamedTuple):
    """A block in its place in the chain.

    Attributes:
        block: the block.
        digest: ``DIGEST_BYTES`` of all up to it, itself included.
        tokens: about how many it has.
    """

    block: Block
    digest: bytes
    tokens: int


def rough_tokens(value: Tool | Part, form: WireFormat) -> int:
    """About how many tokens a block has: one for four bytes of text, and of a tool's JSON."""
    if isinstance(value, Tool):
        return -(-len(msgspec.json.encode(form.tool_outline(value))) // 4)
    if isinstance(value, Text):
        size = len(value.text) if value.text.isascii() else len(value.text.encode("utf-8", "replace"))
        return -(-size // 4)
    return Conversation((Message("user", (value,)),)).count_tokens(img_tokens=_IMAGE_TOKENS)
