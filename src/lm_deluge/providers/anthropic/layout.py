"""Which parts of a prompt the Messages API is sent, and in which order it reads those of a turn."""

from typing import Any

from lm_deluge.prompt import Part, ProviderBlock, Text, Thinking, ToolResult
from lm_deluge.providers._format import is_blank
from lm_deluge.tool import Tool

__all__ = ["NAME", "is_result", "is_sent", "tool_outline"]

NAME = "anthropic"


def is_sent(part: Part) -> bool:
    """Blank text is refused, and of thinking only what the provider has signed or encrypted is its own."""
    if type(part) is Text:
        return not is_blank(part.text)
    if isinstance(part, Thinking):
        return part.redacted is not None or bool(part.signature)
    return not isinstance(part, ProviderBlock) or part.wire == NAME


def is_result(part: Part) -> bool:
    """Whether a part is the result of a tool, which has to open its message (Anthropic, tool use guide)."""
    if isinstance(part, ProviderBlock):
        return part.block.get("type") == "tool_result"
    return isinstance(part, ToolResult)


def tool_outline(tool: Tool) -> dict[str, Any]:
    """A tool about as it is sent."""
    return {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
