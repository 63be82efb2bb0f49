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

_WHERE = {
    "APIResponse": "response",
    "Conversation": "prompt",
    "File": "prompt",
    "Image": "prompt",
    "LLMClient": "client",
    "Message": "prompt",
    "PromptCache": "prompt_cache",
    "SamplingParams": "config",
    "Text": "prompt",
    "Thinking": "prompt",
    "Tool": "tool",
    "ToolCall": "prompt",
    "ToolResult": "prompt",
    "Usage": "usage",
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
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"lm_deluge.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
