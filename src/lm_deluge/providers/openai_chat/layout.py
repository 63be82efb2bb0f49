"""Which parts of a prompt Chat Completions is sent."""

from typing import Any

from lm_deluge.prompt import Part, ProviderBlock, Text, Thinking
from lm_deluge.tool import Tool

__all__ = ["NAME", "is_sent", "tool_outline"]

NAME = "openai-chat"


def is_sent(part: Part) -> bool:
    """Neither empty text, nor reasoning: servers ask not to get theirs back (DeepSeek, reasoning model guide)."""
    if type(part) is Text:
        return bool(part.text)
    if isinstance(part, ProviderBlock):
        return part.wire == NAME
    return not isinstance(part, Thinking)


def tool_outline(tool: Tool) -> dict[str, Any]:
    """A tool about as it is sent."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
