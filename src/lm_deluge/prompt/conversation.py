"""A prompt: messages in order, frozen, with a digest that grows with them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, Self

import msgspec

from lm_deluge.canonical import ROOT, extend
from lm_deluge.errors import PromptError
from lm_deluge.prompt.media import File, Image, MediaInput
from lm_deluge.prompt.message import Message, Role
from lm_deluge.prompt.parts import ToolResult

__all__ = ["Conversation"]


class HasContent(Protocol):
    """An answer whose message can be added to a conversation, such as ``APIResponse``."""

    @property
    def content(self) -> Message | None: ...


class _Builder:
    """``Conversation.user(...)`` on the class starts a conversation; on an instance it goes on from there."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self.__doc__ = f"This conversation with one more {role} message; on the class, a new one that starts with it."

    def __get__(self, conversation: "Conversation | None", owner: "type[Conversation]") -> "Callable[..., Conversation]":
        role = self._role

        def build(
            text: str | None = None,
            *,
            image: MediaInput | Image | None = None,
            file: MediaInput | File | None = None,
        ) -> Conversation:
            message = Message.user(text, image=image, file=file)
            if role != "user":
                message = Message(role, message.parts)
            return (owner() if conversation is None else conversation).add(message)

        build.__doc__ = self.__doc__
        build.__name__ = "ai" if role == "assistant" else role
        return build


class Conversation(msgspec.Struct, frozen=True, dict=True, omit_defaults=True):
    """A prompt. Frozen: ``add`` and the ``with_*`` methods return a new conversation.

    So a prompt can be shared by a million requests and cannot change under a cache entry::

        base = Conversation.system("You grade essays.")
        prompts = [base.user(essay) for essay in essays]   # the system message is hashed once

    Attributes:
        messages: the messages, in order.
    """

    messages: Sequence[Message] = ()

    system = _Builder("system")
    user = _Builder("user")
    ai = _Builder("assistant")

    def __post_init__(self) -> None:
        if type(self.messages) is not tuple:
            msgspec.structs.force_setattr(self, "messages", tuple(self.messages))

    def add(self, message: Message) -> Self:
        """This conversation with one more message."""
        if not isinstance(message, Message):
            raise TypeError(
                f"A conversation takes messages such as Message.user('...'), not {type(message).__name__}."
            )
        longer = type(self)((*self.messages, message))
        known = self.__dict__.get("digest")
        if known is not None and message.is_loaded:
            longer.__dict__["digest"] = extend(known, message)
        return longer

    def with_message(self, message: Message) -> Self:
        """The same as ``add``."""
        return self.add(message)

    def with_response(self, response: HasContent) -> Self:
        """This conversation with the model's answer.

        Raises:
            PromptError: the response is an error and has no answer.
        """
        if response.content is None:
            raise PromptError("This response has no content to add; check is_error and error_message first.")
        return self.add(response.content)

    def with_tool_result(self, tool_call_id: str, result: object, *, is_error: bool = False) -> Self:
        """This conversation with the result of a tool call: text, parts, or any JSON value.

        Results that follow each other share one message, as providers expect of parallel calls.
        """
        part = ToolResult.of(tool_call_id, result, is_error=is_error)
        if self.messages and self.messages[-1].role == "tool":
            return type(self)((*self.messages[:-1], self.messages[-1].with_part(part)))
        return self.add(Message("tool", (part,)))

    def with_tool_results(self, results: Iterable[tuple[str, object]]) -> Self:
        """This conversation with several tool results, as pairs of call id and result."""
        conversation = self
        for tool_call_id, result in results:
            conversation = conversation.with_tool_result(tool_call_id, result)
        return conversation

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the conversation, 32 bytes. Blocks while local images and files are read.

        Raises:
            PromptError: something in the prompt cannot be read or has no canonical form.
        """
        digest = ROOT
        for message in self.messages:
            digest = extend(digest, message)
        return digest

    @property
    def fingerprint(self) -> str:
        """The digest in hexadecimal: equal for equal prompts, in every process and on every machine."""
        return self.digest.hex()

    def __hash__(self) -> int:
        return hash(self.digest)

    def count_tokens(self, max_new_tokens: int = 0, img_tokens: int = 85) -> int:
        """Tokens of the prompt, roughly: one for four bytes of text, four for each message.

        It feeds the rate limits, where a cheap number is enough; bills come from what providers report.

        Args:
            max_new_tokens: added to the sum.
            img_tokens: counted for each image and, as a stand-in, for each page-sized 2 kB of a file.
        """
        total = sum(message.token_estimate for message in self.messages) + max_new_tokens
        for message in self.messages:
            for item in message.media:
                total += img_tokens if isinstance(item, Image) else img_tokens * (1 + len(item.data or b"") // 2048)
        return total

    @property
    def is_loaded(self) -> bool:
        """Whether no image or file has to be read from disk."""
        return all(message.is_loaded for message in self.messages)

    def load(self) -> "Conversation":
        """The same prompt with every local image and file in memory. Blocks.

        Raises:
            MediaError: one of them cannot be read.
        """
        return self if self.is_loaded else Conversation([message.load() for message in self.messages])

    def to_log(self, *, preserve_media: bool = True) -> dict[str, Any]:
        """Plain data for JSON; ``from_log`` is the way back.

        Args:
            preserve_media: False leaves the bytes of images and files out and keeps their SHA-256 and size.
        """
        log: dict[str, Any] = msgspec.to_builtins(self)
        if not preserve_media:
            _drop_media(log)
        return log

    @classmethod
    def from_log(cls, payload: Mapping[str, Any]) -> Self:
        """The conversation that ``to_log`` wrote.

        Raises:
            PromptError: the payload has another shape, or its media were left out.
        """
        try:
            return msgspec.convert(payload, cls)
        except msgspec.ValidationError as error:
            raise PromptError(f"This is not a logged conversation: {error}") from error

    @classmethod
    def from_openai_chat(cls, messages: Sequence[Mapping[str, Any]]) -> Self:
        """From an OpenAI-style list of message objects.

        Raises:
            PromptError: a role, part or field that has no counterpart here; nothing is dropped silently.
        """
        from lm_deluge.prompt.openai_style import read_messages

        return cls(read_messages(messages))


def _drop_media(value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _drop_media(item)
    elif isinstance(value, dict):
        if value.get("type") in ("image", "file") and "data" in value:
            part = msgspec.convert(value, Image | File)
            del value["data"]
            value["omitted"] = {"sha256": part.digest, "bytes": len(part.data or b"")}
        else:
            for item in value.values():
                _drop_media(item)
