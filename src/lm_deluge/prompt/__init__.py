"""Prompts as frozen values: conversations, messages and their parts."""

from lm_deluge.prompt.accept import PromptLike, as_conversation, as_prompts
from lm_deluge.prompt.conversation import Conversation
from lm_deluge.prompt.media import File, Image
from lm_deluge.prompt.message import Message, Role
from lm_deluge.prompt.parts import Part, ProviderBlock, Text, Thinking, ToolCall, ToolResult

__all__ = [
    "Conversation",
    "File",
    "Image",
    "Message",
    "Part",
    "PromptLike",
    "ProviderBlock",
    "Role",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "as_conversation",
    "as_prompts",
]
