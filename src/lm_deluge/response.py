"""What a prompt came back with: an answer or an error, and what it cost."""

from typing import Any

import msgspec

from lm_deluge._json import NotJson, read_json
from lm_deluge.errors import PromptError
from lm_deluge.prompt import Message, ToolCall
from lm_deluge.prompt._frozen import thaw
from lm_deluge.prompt.message import refuse_paths
from lm_deluge.usage import Usage

__all__ = ["APIResponse"]


class APIResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The result of one prompt. Exactly one for each prompt, in the order of the prompts.

    Attributes:
        id: position of the prompt in the run, or the task id of ``start_nowait``.
        model_internal: the model as the user named it.
        model_external: the model that answered, as the provider names it; None for an error.
        content: the model's message; None for an error.
        usage: tokens by kind; of a local hit, those of the original answer.
        cost: US dollars paid for this response: 0 for a local hit, None when the price is not known.
        cost_avoided: US dollars that a local hit saved: the cost of the original answer.
        finish_reason: ``"stop"``, ``"length"``, ``"tool_calls"``, ``"content_filter"`` or ``"refusal"``, for every
            provider; anything else is the provider's own word.
        logprobs: one object for each token, in OpenAI's shape, when asked for.
        status_code: HTTP status; None when no answer arrived or none was needed.
        is_error: whether there is no answer.
        error_message: what happened, to what, and what to do; None without an error.
        local_cache_hit: whether the answer came from the local cache.
        response_id: the provider's id of the answer.
        raw_body: the provider's answer as it was received.
        sample: which of several independent answers to its prompt this is (see ``samples=``).
        entry: the key of the local cache's entry that holds this answer, in hexadecimal; None if none does.
    """

    id: int = 0
    model_internal: str = ""
    model_external: str | None = None
    content: Message | None = None
    usage: Usage | None = None
    cost: float | None = None
    cost_avoided: float = 0.0
    finish_reason: str | None = None
    logprobs: list[dict[str, Any]] | None = None
    status_code: int | None = None
    is_error: bool = False
    error_message: str | None = None
    local_cache_hit: bool = False
    response_id: str | None = None
    raw_body: bytes | None = None
    sample: int = 0
    entry: str | None = None

    @property
    def model(self) -> str:
        """The model that answered, as the provider names it; for an error, the model that was asked."""
        return self.model_external or self.model_internal

    @property
    def completion(self) -> str | None:
        """The text of the answer, or None."""
        return None if self.content is None else self.content.completion

    @property
    def thinking(self) -> str | None:
        """The model's reasoning as far as the provider shows it, or None."""
        if self.content is None:
            return None
        return "\n".join(part.text for part in self.content.thinking_parts if part.text) or None

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tool calls of the answer."""
        return [] if self.content is None else self.content.tool_calls

    @property
    def raw_response(self) -> dict[str, Any] | None:
        """The provider's answer as a new dict, or None when there was none or it was not a JSON object
        that can be used: one that is nested without end cannot."""
        if self.raw_body is None:
            return None
        try:
            decoded = read_json(self.raw_body)
        except NotJson:
            return None
        return decoded if isinstance(decoded, dict) else None

    @property
    def input_tokens(self) -> int | None:
        """Prompt tokens that were neither read from nor written to the provider's cache."""
        return None if self.usage is None else self.usage.input_tokens

    @property
    def output_tokens(self) -> int | None:
        """Generated tokens."""
        return None if self.usage is None else self.usage.output_tokens

    @property
    def cache_read_tokens(self) -> int | None:
        """Prompt tokens read from the provider's cache."""
        return None if self.usage is None else self.usage.cache_read_tokens

    @property
    def cache_write_tokens(self) -> int | None:
        """Prompt tokens written to the provider's cache."""
        return None if self.usage is None else self.usage.cache_write_tokens

    @property
    def cache_hit(self) -> bool:
        """Whether the provider read part of the prompt from its own cache."""
        return self.usage is not None and self.usage.has_cache_hit

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``from_dict`` is the way back."""
        plain: dict[str, Any] = thaw(msgspec.to_builtins(self))
        return plain

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "APIResponse":
        """The response that ``to_dict`` wrote.

        Raises:
            msgspec.ValidationError: the data have another shape.
            PromptError: an image or a file in it is a local path, which no answer has; or text is not valid Unicode.
        """
        try:
            response = msgspec.convert(data, cls)
            msgspec.msgpack.encode(response)  # a lone surrogate could be neither stored nor sent
        except UnicodeEncodeError as error:
            raise PromptError(f"The response holds text that is not valid Unicode: {error.reason}.") from error
        if response.content is not None:
            refuse_paths((response.content,))
        return response
