"""One request to a model, before any provider's format: what is asked, of which model, and where its cache marks go."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from lm_deluge.config import SamplingParams
from lm_deluge.models import Model
from lm_deluge.prompt import Conversation
from lm_deluge.tool import Tool

__all__ = ["Breakpoint", "Request"]


class Breakpoint(msgspec.Struct, frozen=True):
    """A place up to which the provider may cache the prompt, the named block included.

    Independent of any provider; each one writes it in its own syntax.

    Attributes:
        section: ``"tools"`` or ``"messages"`` (system messages are messages here).
        index: which tool, or which message of the conversation.
        part: which part of that message; 0 for a tool.
        ttl: how long the entry should live, for example ``"1h"``; None for the provider's default.
    """

    section: Literal["tools", "messages"]
    index: int
    part: int = 0
    ttl: str | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a provider's module needs to build the HTTP request, but for the credential.

    Attributes:
        conversation: the prompt; local images and files are loaded.
        model: where and how to send it.
        params: sampling parameters.
        tools: tools that the model may call.
        tool_choice: ``"auto"``, ``"none"``, ``"required"`` or a tool's name; None leaves it to the provider.
        output_schema: a JSON schema that the answer has to follow.
        breakpoints: where the provider should cache, at most four.
        automatic_cache: leave the place of the breakpoint to the provider.
        extra_headers: added to the HTTP headers; they win over ours.
        extra_body: merged into the body's top level; it wins over ours.
    """

    conversation: Conversation
    model: Model
    params: SamplingParams = SamplingParams()
    tools: Sequence[Tool] = ()
    tool_choice: str | None = None
    output_schema: Mapping[str, Any] | None = None
    breakpoints: Sequence[Breakpoint] = ()
    automatic_cache: bool = False
    extra_headers: Mapping[str, str] = {}
    extra_body: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        # Headers may hold a credential, and so may anything in the body; their names are enough to know what was set.
        return (
            f"Request({self.model.name}, {len(self.conversation.messages)} messages, params={self.params}, "
            f"tools={[tool.name for tool in self.tools]}, extra_headers={sorted(self.extra_headers)}, "
            f"extra_body={sorted(self.extra_body)})"
        )
