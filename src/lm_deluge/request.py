"""One request to a model, before any provider's format: what is asked, of which model, and where its breakpoints go."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from lm_deluge import canonical
from lm_deluge._secrets import says_what_is_asked
from lm_deluge.config import SamplingParams
from lm_deluge.errors import ConfigError, PromptError
from lm_deluge.models import Model
from lm_deluge.prompt import Conversation
from lm_deluge.tool import Tool

__all__ = ["Breakpoint", "Parameters", "Request"]

# Headers that say who asks, or name one exchange, but not what is asked. No key is made from them.
_PERSONAL = re.compile(r"auth|key|token|cookie|secret|user|session|request-id|idempotency|trace|organization|project")


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

    @property
    def place(self) -> tuple[Literal["tools", "messages"], int, int]:
        """Section, index and part."""
        return self.section, self.index, self.part


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
        cache_ttl: how long entries live whose place is the provider's own choice; None for its default.
        cache_tail: whether a provider that caches the end of each prompt does so, beyond the last breakpoint: True for
            prompts that go on from each other; False for tails that vary, which would be written each time and never
            read; None for no where there are breakpoints, and for the provider's default where there are none.
        prompt_cache_key: keeps prompts with one prefix together, for providers that route by such a key.
        prefill: ask for no answer, only for the prompt to be cached. See ``WireFormat.can_prefill``.
        diagnose: ask why the prompt was not read from the provider's cache, where the provider says. It compares with
            an earlier request that was asked with ``diagnose`` too. No part of what is asked of the model.
        previous_response_id: the provider's id of the answer to that earlier request; None if this is the first. Ids
            of other providers count as None.
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
    cache_ttl: str | None = None
    cache_tail: bool | None = None
    prompt_cache_key: str | None = None
    prefill: bool = False
    diagnose: bool = False
    previous_response_id: str | None = None
    extra_headers: Mapping[str, str] = {}
    extra_body: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        # Headers may hold a credential, and so may anything in the body; their names are enough to know what was set.
        return (
            f"Request({self.model.name}, {len(self.conversation.messages)} messages, params={self.params}, "
            f"tools={[tool.name for tool in self.tools]}, extra_headers={sorted(self.extra_headers)}, "
            f"extra_body={sorted(self.extra_body)})"
        )


class Parameters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that is asked beside the conversation. The key of an entry is made from it too.

    Plain data, kept with each entry, so it holds no credential. Headers that identify who asks are left out. Of those
    that are known to say what is asked the digest is kept; any other may hold a secret that a digest would give away to
    a list of guesses, so of these only the name is.

    Attributes:
        model: as the user named it.
        endpoint: where requests go.
        params: sampling parameters that are set.
        tools: name, description, schema and strictness of each tool.
        tool_choice: as in ``Request``.
        output_schema: as in ``Request``.
        extra_body: as in ``Request``.
        extra_headers: the SHA-256 of each header's value, in hexadecimal; empty where that is not kept.
        sealed: ``digest`` in hexadecimal, where there are such headers, for it is made from their values too.
    """

    model: str
    endpoint: str = ""
    params: dict[str, Any] = {}
    tools: list[dict[str, Any]] = []
    tool_choice: str | None = None
    output_schema: dict[str, Any] | None = None
    extra_body: dict[str, Any] = {}
    extra_headers: dict[str, str] = {}
    sealed: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None

    @classmethod
    def of(
        cls,
        model: Model,
        params: SamplingParams = SamplingParams(),  # noqa: B008 - frozen
        *,
        tools: Sequence[Tool] = (),
        tool_choice: str | None = None,
        output_schema: Mapping[str, Any] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> "Parameters":
        """The parameters of requests to a model.

        Raises:
            ConfigError: something among them has no JSON form.
        """
        try:
            return cls(
                model=model.name,
                endpoint=model.base_url,
                params=canonical.plain(msgspec.to_builtins(params)),
                tools=[_plain_tool(tool) for tool in tools],
                tool_choice=tool_choice,
                output_schema=canonical.plain(output_schema),
                extra_body=canonical.plain(extra_body or {}),
                extra_headers={
                    name.lower(): hashlib.sha256(str(value).encode()).hexdigest()
                    for name, value in (extra_headers or {}).items()
                    if not _PERSONAL.search(name.lower())
                },
            ).guarded()
        except PromptError as error:
            raise ConfigError(f"The request's parameters cannot be sent: {error}") from error

    @property
    def digest(self) -> bytes:
        """SHA-256 of all of it, for keys."""
        return canonical.parameters_digest(self.__canonical__()) if self.sealed is None else bytes.fromhex(self.sealed)

    @property
    def fingerprint(self) -> bytes:
        """Eight bytes that tell whether model or parameters differ, wherever the request went."""
        here = msgspec.structs.replace(self, endpoint="", extra_headers={}, sealed=None)
        return canonical.parameters_digest(here.__canonical__())[:8]

    @property
    def is_whole(self) -> bool:
        """Whether ``digest`` is that of what was asked. It is not where a header was left out and nothing is sealed."""
        return self.sealed is not None or "" not in self.extra_headers.values()

    def guarded(self) -> "Parameters":
        """The same without digests of values that may be secret. Entries of older versions hold them."""
        kept = {name: value if says_what_is_asked(name) else "" for name, value in self.extra_headers.items()}
        if kept == self.extra_headers:
            return self
        return msgspec.structs.replace(self, extra_headers=kept, sealed=self.digest.hex())

    def __canonical__(self) -> object:
        return msgspec.to_builtins(self)


def _plain_tool(tool: Tool) -> dict[str, Any]:
    whole = {"name": tool.name, "description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    return {name: value for name, value in canonical.plain(whole).items() if value is not None}
