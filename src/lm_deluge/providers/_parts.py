"""Parts from what a provider sent, when it may not fit into a prompt.

Prompts hold JSON that everyone reads the same: no integers of more than 64 bits, no nesting without end. A model can
write both. The answer was paid for, so what does not fit is kept as text instead of refused.
"""

from typing import Any

import msgspec

from lm_deluge.errors import PromptError
from lm_deluge.prompt import ProviderBlock, ToolCall
from lm_deluge.prompt.parts import as_arguments

__all__ = ["provider_block", "tool_call"]


def tool_call(id: str, name: str, arguments: str | dict[str, Any]) -> ToolCall:
    """A tool call. Arguments that are not a JSON object of a prompt are kept as text under ``"_raw"``."""
    try:
        return ToolCall(id, name, as_arguments(arguments))
    except PromptError:
        return ToolCall(id, name, {"_raw": _text(arguments)})


def provider_block(wire: str, block: dict[str, Any]) -> ProviderBlock:
    """A block that only its provider knows. One that does not fit belongs to no wire format, so it is not sent back."""
    try:
        return ProviderBlock(wire, block)
    except PromptError:
        return ProviderBlock("unreadable", {"_raw": _text(block)})


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
