"""Where two prompts part, in words: what one provider's cache can share of them ends there."""

from typing import NamedTuple

from lm_deluge.prompt import Conversation, Text
from lm_deluge.prompt_cache.blocks import Block
from lm_deluge.prompt_cache.layout import Reader
from lm_deluge.prompt_cache.trunks import in_common

__all__ = ["Divergence", "divergence"]

_SHOWN = 24  # characters of each side, and so many before them
_LEAD = 12


class Divergence(NamedTuple):
    """Where two prompts part.

    Attributes:
        where: a sentence.
        tokens: about how many they have in common in whole blocks.
        tokens_inside: about how many more inside the block in which they part.
        goes_on: whether they do not part, but one goes on where the other ends.
    """

    where: str
    tokens: int
    tokens_inside: int = 0
    goes_on: bool = False


def divergence(reader: Reader, one: Conversation, two: Conversation) -> Divergence:
    """Where two prompts part, in the order in which their provider reads them."""
    shared = 0
    for first, second in zip(reader.chain(one), reader.chain(two), strict=False):
        if first.block == second.block:
            shared += first.tokens
            continue
        one_part, other = first.block.value, second.block.value
        where = f"The first two part in {_place(first.block)}"
        if not isinstance(one_part, Text) or not isinstance(other, Text):
            return Divergence(f"{where}.", shared)
        at, shown = _difference(one_part.text, other.text)
        return Divergence(f"{where} at character {at:,}: {shown}.", shared, at // 4)
    return Divergence("One of the first two ends where the other goes on.", shared, goes_on=True)


def _place(block: Block) -> str:
    section, index, part = block.place
    if section == "tools":
        return f"tools[{index}]"
    return f"messages[{index}] ({block.role})" + (f", part {part}" if part else "")


def _difference(first: str, second: str) -> tuple[int, str]:
    """The first character that differs, and both texts from a little before it."""
    at = in_common(first, second)
    begin = max(0, at - _LEAD)
    shown = (("…" if begin else "") + repr(text[begin : at + _SHOWN]) for text in (first, second))
    return at, " and ".join(shown)
