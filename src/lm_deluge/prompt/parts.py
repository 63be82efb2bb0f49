"""What a message is made of: a tagged union of frozen parts."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lm_deluge._json import NotJson, read_json
from lm_deluge.canonical import encode
from lm_deluge.errors import PromptError
from lm_deluge.prompt._frozen import FrozenDict, freeze
from lm_deluge.prompt.media import File, Image

__all__ = ["Part", "ProviderBlock", "Text", "Thinking", "ToolCall", "ToolResult"]


class Text(msgspec.Struct, frozen=True, omit_defaults=True, tag="text", tag_field="type", gc=False):
    """Plain text."""

    text: str

    def __post_init__(self) -> None:
        if type(self.text) is not str:
            if not isinstance(self.text, str):
                raise TypeError(f"Text takes a string, not {type(self.text).__name__}.")
            # A subclass, numpy's for example, has no place in JSON.
            msgspec.structs.force_setattr(self, "text", str.__str__(self.text))

    def __canonical__(self) -> object:
        return ["text", self.text]


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True, tag="tool_call", tag_field="type", gc=False):
    """A call of a tool that the model asks for.

    Attributes:
        id: the provider's id of the call; its result names it.
        name: the tool's name.
        arguments: the arguments, a JSON object. Frozen: ``copy.deepcopy`` gives an ordinary dict.

    Raises:
        PromptError: arguments that are no JSON object.
    """

    id: str
    name: str
    arguments: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if type(self.arguments) is not FrozenDict:
            msgspec.structs.force_setattr(self, "arguments", _frozen_object(self.arguments, "A tool call's arguments"))

    def __canonical__(self) -> object:
        return ["tool_call", self.id, self.name, self.arguments]


class ToolResult(msgspec.Struct, frozen=True, omit_defaults=True, tag="tool_result", tag_field="type", gc=False):
    """What a tool gave back.

    Attributes:
        tool_call_id: the ``id`` of the call that this answers.
        result: text, or a sequence of text and image parts.
        is_error: whether the tool failed. Only Anthropic has a field for it; others get the text alone.

    Raises:
        PromptError: a result of another type. ``ToolResult.of`` takes any JSON value.
    """

    tool_call_id: str
    result: str | Sequence[Text | Image] = ""
    is_error: bool = False

    def __post_init__(self) -> None:
        given: object = self.result
        if isinstance(given, str):
            result: object = str.__str__(given)
        elif isinstance(given, Sequence) and all(isinstance(item, (Text, Image)) for item in given):
            result = tuple(given)
        else:
            raise PromptError("A tool's result is text, or text and image parts. ToolResult.of takes any JSON value.")
        msgspec.structs.force_setattr(self, "result", result)

    @classmethod
    def of(cls, tool_call_id: str, result: object, *, is_error: bool = False) -> "ToolResult":
        """From text, parts, or any JSON value, which is sent as JSON text.

        Raises:
            PromptError: the result has no JSON form.
        """
        if isinstance(result, str):
            return cls(tool_call_id, result, is_error)
        if isinstance(result, (Text, Image)):
            return cls(tool_call_id, (result,), is_error)
        if isinstance(result, Sequence) and result and all(isinstance(item, (Text, Image)) for item in result):
            return cls(tool_call_id, tuple(result), is_error)
        return cls(tool_call_id, encode(freeze(result)).decode(), is_error)

    def __canonical__(self) -> object:
        result = self.result if isinstance(self.result, str) else [part.__canonical__() for part in self.result]
        identity: list[object] = ["tool_result", self.tool_call_id, result]
        if self.is_error:
            identity.append({"is_error": True})
        return identity


class Thinking(msgspec.Struct, frozen=True, omit_defaults=True, tag="thinking", tag_field="type", gc=False):
    """The model's reasoning, as the provider shows it.

    Attributes:
        text: the reasoning or its summary; often empty.
        signature: the provider's proof that the block is its own. It has to be sent back unchanged.
        redacted: the encrypted reasoning of a redacted block; then ``text`` is empty.
    """

    text: str = ""
    signature: str | None = None
    redacted: str | None = None

    def __canonical__(self) -> object:
        identity: list[object] = ["thinking", self.text]
        extra = {"signature": self.signature, "redacted": self.redacted}
        if any(value is not None for value in extra.values()):
            identity.append({name: value for name, value in extra.items() if value is not None})
        return identity


class ProviderBlock(msgspec.Struct, frozen=True, omit_defaults=True, tag="provider_block", tag_field="type", gc=False):
    """A block that only one provider knows (a server tool's result, for example), kept so that it can be sent back.

    Attributes:
        wire: the wire format that it belongs to, for example ``"anthropic"``. Other formats leave it out.
        block: the block as it was received. Frozen.

    Raises:
        PromptError: a block that is no JSON object.
    """

    wire: str
    block: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if type(self.block) is not FrozenDict:
            msgspec.structs.force_setattr(self, "block", _frozen_object(self.block, "A provider's block"))

    def __canonical__(self) -> object:
        return ["provider_block", self.wire, self.block]


Part = Text | Image | File | ToolCall | ToolResult | Thinking | ProviderBlock


def as_arguments(arguments: str | Mapping[str, Any]) -> dict[str, Any]:
    """A tool call's arguments, frozen, from JSON text or a mapping.

    Text that is not a JSON object is kept under ``"_raw"``: models do produce arguments that do not parse, and the
    answer was paid for, so it is kept rather than refused.

    Raises:
        PromptError: a mapping that has no JSON form.
    """
    if not isinstance(arguments, str):
        return _frozen_object(arguments, "A tool call's arguments")
    try:
        return _frozen_object(read_json(arguments or "{}"), "A tool call's arguments")
    except (NotJson, PromptError):
        return FrozenDict({"_raw": arguments})


def _frozen_object(value: object, what: str) -> FrozenDict:
    frozen = freeze(value)
    if type(frozen) is not FrozenDict:
        raise PromptError(f"{what} must be a JSON object, not {type(value).__name__}.")
    return frozen
