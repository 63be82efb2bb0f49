"""One message of a conversation."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeVar, cast, get_args

import msgspec

from lm_deluge.errors import PromptError
from lm_deluge.prompt.media import File, Image, MediaInput
from lm_deluge.prompt.parts import Part, ProviderBlock, Text, Thinking, ToolCall, ToolResult, as_arguments

__all__ = ["Message", "Role", "refuse_paths"]

Role = Literal["system", "user", "assistant", "tool"]

_ROLES: tuple[str, ...] = get_args(Role)
_PARTS = frozenset(get_args(Part))

P = TypeVar("P", bound=Part)


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A role and its parts. Frozen: every ``with_*`` method returns a new message.

    Attributes:
        role: ``"system"``, ``"user"``, ``"assistant"``, or ``"tool"`` for tool results.
        parts: text, images, files, tool calls, tool results and thinking, in order.

    Raises:
        PromptError: another role.
        TypeError: something among the parts is none.
    """

    role: Role
    parts: Sequence[Part] = ()

    def __post_init__(self) -> None:
        if self.role not in _ROLES:
            raise PromptError(f"{self.role!r} is not a role; known are {', '.join(_ROLES)}.")
        if type(self.parts) is not tuple:
            msgspec.structs.force_setattr(self, "parts", tuple(self.parts))
        for part in self.parts:
            if type(part) not in _PARTS:
                raise TypeError(f"A message holds parts such as Text('...'), not {type(part).__name__}.")

    @classmethod
    def user(
        cls, text: str | None = None, *, image: MediaInput | Image | None = None, file: MediaInput | File | None = None
    ) -> "Message":
        """A user's message: text, then an image and a file where given."""
        message = cls("user", () if text is None else (Text(text),))
        if image is not None:
            message = message.with_image(image)
        return message if file is None else message.with_file(file)

    @classmethod
    def system(cls, text: str | None = None) -> "Message":
        """A system message."""
        return cls("system", () if text is None else (Text(text),))

    @classmethod
    def ai(cls, text: str | None = None) -> "Message":
        """A message of the model."""
        return cls("assistant", () if text is None else (Text(text),))

    def with_part(self, part: Part) -> Self:
        """This message with one more part."""
        return type(self)(self.role, (*self.parts, part))

    def with_text(self, text: str) -> Self:
        """This message with a text at its end."""
        return self.with_part(Text(text))

    def with_image(
        self,
        data: MediaInput | Image,
        *,
        media_type: str | None = None,
        detail: Literal["low", "high", "auto"] | None = None,
    ) -> Self:
        """This message with an image: a path, bytes, a data URL, base64 text or an ``http(s)`` URL.

        A path is read when the prompt is used, so a missing file becomes an error response at that prompt's position.
        """
        given = {"media_type": media_type, "detail": detail}
        return self.with_part(Image.of(data, **{name: value for name, value in given.items() if value is not None}))

    def with_file(self, data: MediaInput | File, media_type: str | None = None, filename: str | None = None) -> Self:
        """This message with a document: a path, bytes, a data URL, base64 text or an ``http(s)`` URL."""
        given = {"media_type": media_type, "filename": filename}
        return self.with_part(File.of(data, **{name: value for name, value in given.items() if value is not None}))

    def with_tool_call(self, id: str, name: str, arguments: Mapping[str, Any] | str) -> Self:
        """This message with a tool call; ``arguments`` as a mapping or as JSON text."""
        return self.with_part(ToolCall(id, name, as_arguments(arguments)))

    def with_tool_result(self, tool_call_id: str, result: object, *, is_error: bool = False) -> Self:
        """This message with a tool's result: text, parts, or any JSON value."""
        return self.with_part(ToolResult.of(tool_call_id, result, is_error=is_error))

    def with_thinking(self, text: str, signature: str | None = None) -> Self:
        """This message with a block of reasoning."""
        return self.with_part(Thinking(text, signature))

    @property
    def completion(self) -> str | None:
        """All text of the message, or None when it has none."""
        texts = [part.text for part in self.parts if type(part) is Text]
        return "".join(texts) if texts else None

    @property
    def text_parts(self) -> list[Text]:
        """The texts of the message, in order."""
        return self._of(Text)

    @property
    def images(self) -> list[Image]:
        """The images of the message, in order."""
        return self._of(Image)

    @property
    def files(self) -> list[File]:
        """The files of the message, in order."""
        return self._of(File)

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tool calls of the message, in order."""
        return self._of(ToolCall)

    @property
    def tool_results(self) -> list[ToolResult]:
        """The tool results of the message, in order."""
        return self._of(ToolResult)

    @property
    def thinking_parts(self) -> list[Thinking]:
        """The blocks of reasoning of the message, in order."""
        return self._of(Thinking)

    @property
    def token_estimate(self) -> int:
        """Tokens of the message, roughly; see ``Conversation.count_tokens``. Images and files count 0 here."""
        return 4 + sum([_estimate(part) for part in self.parts])

    @property
    def media(self) -> list[Image | File]:
        """Every image and file of the message, those inside tool results included."""
        found: list[Image | File] = []
        for part in self.parts:
            if isinstance(part, (Image, File)):
                found.append(part)
            elif isinstance(part, ToolResult) and not isinstance(part.result, str):
                found.extend(item for item in part.result if isinstance(item, Image))
        return found

    @property
    def is_loaded(self) -> bool:
        """Whether no image or file of the message has to be read from disk."""
        for part in self.parts:  # most messages are one text, and this runs for every prompt
            if type(part) is not Text:
                return all(item.is_loaded for item in self.media)
        return True

    def load(self) -> "Message":
        """The same message with every local image and file in memory. Blocks.

        Raises:
            MediaError: one of them cannot be read.
        """
        if self.is_loaded:
            return self
        return Message(self.role, [_load(part) for part in self.parts])

    def __canonical__(self) -> object:
        return [self.role, [part.__canonical__() for part in self.parts]]

    def _of(self, kind: type[P]) -> list[P]:
        return [part for part in self.parts if isinstance(part, kind)]


def refuse_paths(messages: Sequence[Message]) -> None:
    """See that messages which were read from plain data name no local file. Nothing is opened.

    Raises:
        PromptError: an image or a file is a path.
    """
    for number, message in enumerate(messages):
        for item in message.media:
            if item.path is not None:
                raise PromptError(
                    f"messages[{number}] has a local path, {item.path[:200]!r}. Data from elsewhere must not decide "
                    "which files are sent: load() prompts before they are logged, or use "
                    "Conversation.from_log(..., allow_paths=True) for logs of your own."
                )


def _load(part: Part) -> Part:
    if isinstance(part, (Image, File)):
        return part.load()
    if isinstance(part, ToolResult) and not isinstance(part.result, str):
        result = tuple(cast("Text | Image", _load(item)) for item in part.result)
        return ToolResult(part.tool_call_id, result, part.is_error)
    return part


def _estimate(part: Part) -> int:
    if isinstance(part, (Text, Thinking)):
        return _text_tokens(part.text)
    if isinstance(part, ToolCall):
        return 8 + _text_tokens(part.name) + _text_tokens(str(part.arguments))
    if isinstance(part, ToolResult):
        if isinstance(part.result, str):
            return 4 + _text_tokens(part.result)
        return 4 + sum([_estimate(item) for item in part.result])
    if isinstance(part, ProviderBlock):
        return _text_tokens(str(part.block))
    return 0


def _text_tokens(text: str) -> int:
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return -(-size // 4)
