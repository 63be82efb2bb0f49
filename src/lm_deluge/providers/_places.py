"""Which parts may stand in which message. The wire formats agree on it."""

from collections.abc import Mapping

from lm_deluge.errors import PromptError
from lm_deluge.prompt import File, Image, Message, Part, ProviderBlock, Text, Thinking, ToolCall, ToolResult

__all__ = ["check_place"]

_USER = (Text, Image, File, ToolResult, ProviderBlock)
_PLACES: Mapping[str, tuple[type[Part], ...]] = {
    "system": (Text,),
    "user": _USER,
    "tool": _USER,
    "assistant": (Text, Thinking, ToolCall, ProviderBlock),
}


def check_place(part: Part, message: Message, index: int) -> None:
    """Refuse a part that no provider takes in such a message.

    Raises:
        PromptError: the message names the part, and where it may go.
    """
    kind = type(part)
    if kind in _PLACES[message.role]:
        return
    homes = " or ".join(role for role, kinds in _PLACES.items() if kind in kinds)
    raise PromptError(
        f"messages[{index}], of role {message.role}, holds {kind.__name__}, which providers take only in "
        f"{homes} messages. Move it there, or leave it out."
    )
