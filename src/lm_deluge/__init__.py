"""Run thousands to millions of prompts through LLM APIs, with caching you can trust."""

from lm_deluge._version import __version__

TYPE_CHECKING = False  # as type checkers read it. Importing ``typing`` takes most of this package's own time
if TYPE_CHECKING:
    from typing import Any

    from lm_deluge.client import LLMClient
    from lm_deluge.config import SamplingParams
    from lm_deluge.prompt import Conversation, File, Image, Message, Text, Thinking, ToolCall, ToolResult
    from lm_deluge.prompt_cache import PromptCache
    from lm_deluge.response import APIResponse
    from lm_deluge.tool import Tool
    from lm_deluge.usage import Usage

_HOMES = {
    "client": ("LLMClient",),
    "config": ("SamplingParams",),
    "prompt": ("Conversation", "File", "Image", "Message", "Text", "Thinking", "ToolCall", "ToolResult"),
    "prompt_cache": ("PromptCache",),
    "response": ("APIResponse",),
    "tool": ("Tool",),
    "usage": ("Usage",),
}

__all__ = [
    "APIResponse",
    "Conversation",
    "File",
    "Image",
    "LLMClient",
    "Message",
    "PromptCache",
    "SamplingParams",
    "Text",
    "Thinking",
    "Tool",
    "ToolCall",
    "ToolResult",
    "Usage",
    "__version__",
]


def __getattr__(name: str) -> "Any":
    # Each name is imported on first use, so importing the package is quick.
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"lm_deluge.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
