"""A prompt: messages in order, frozen, with a digest that grows with them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

import msgspec

from lm_deluge.canonical import ROOT, extend
from lm_deluge.errors import PromptError
from lm_deluge.prompt._frozen import thaw
from lm_deluge.prompt.media import File, Image, MediaInput
from lm_deluge.prompt.message import Message, Role, refuse_paths
from lm_deluge.prompt.parts import Part, ToolResult

__all__ = ["Conversation"]


class HasContent(Protocol):
    """An answer whose message can be added to a conversation, such as ``APIResponse``."""

    @property
    def content(self) -> Message | None: ...


class _Build(Protocol):
    def __call__(
        self, text: str | None = None, *, image: MediaInput | Image | None = None, file: MediaInput | File | None = None
    ) -> "Conversation": ...


class _Builder:
    """``Conversation.user(...)`` on the class starts a conversation; on an instance it goes on from there."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self.__doc__ = f"This conversation with one more {role} message; on the class, a new one that starts with it."

    def __get__(self, conversation: "Conversation | None", owner: "type[Conversation]") -> "_Build":
        role = self._role

        def build(
            text: str | None = None, *, image: MediaInput | Image | None = None, file: MediaInput | File | None = None
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

    Conversations are equal when their digests are, so an image by path equals the same image in memory.

    Attributes:
        messages: the messages, in order.

    Raises:
        TypeError: something among the messages is none.
    """

    messages: Sequence[Message] = ()

    system = _Builder("system")
    user = _Builder("user")
    ai = _Builder("assistant")

    def __post_init__(self) -> None:
        if type(self.messages) is not tuple:
            msgspec.structs.force_setattr(self, "messages", tuple(self.messages))
        for message in self.messages:
            if not isinstance(message, Message):
                raise TypeError(
                    f"A conversation takes messages such as Message.user('...'), not {type(message).__name__}."
                )

    def add(self, message: Message) -> Self:
        """This conversation with one more message."""
        longer = type(self)((*self.messages, message))
        longer.__dict__["_prefix"] = self
        return longer

    def with_message(self, message: Message) -> Self:
        """The same as ``add``."""
        return self.add(message)

    def with_messages(self, messages: Iterable[Message]) -> Self:
        """This conversation with several more messages, in a time that does not grow with their number squared."""
        longer = type(self)((*self.messages, *messages))
        longer.__dict__["_prefix"] = self
        return longer

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

    @property
    def digest(self) -> bytes:
        """SHA-256 of the conversation, 32 bytes.

        Kept once it is known. A prompt with local images and files is read for it, which blocks, and each time again,
        for their content may have changed; ``load`` first where that matters.

        Raises:
            PromptError: something in the prompt cannot be read or has no canonical form.
        """
        known: bytes | None = self.__dict__.get("_digest")
        if known is not None:
            return known
        return self._compute_digest() if self.is_loaded else self.load()._compute_digest()

    def _compute_digest(self) -> bytes:
        """Extends the digest of the longest prefix that has one, and leaves one with every prefix on the way."""
        chain: list[Conversation] = []
        conversation: Conversation | None = self
        while conversation is not None and "_digest" not in conversation.__dict__:
            chain.append(conversation)
            conversation = conversation.__dict__.pop("_prefix", None)  # not needed again; long histories are let go
        digest, done = ROOT, 0
        if conversation is not None:
            digest, done = conversation.__dict__["_digest"], len(conversation.messages)
        for longer in reversed(chain):
            for message in longer.messages[done:]:
                digest = extend(digest, message)
            longer.__dict__["_digest"] = digest
            done = len(longer.messages)
        return digest

    @property
    def fingerprint(self) -> str:
        """The digest in hexadecimal: equal for equal prompts, in every process and on every machine."""
        return self.digest.hex()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Conversation):
            return NotImplemented
        return self is other or self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def count_tokens(self, max_new_tokens: int = 0, img_tokens: int = 85) -> int:
        """Tokens of the prompt, roughly: one for four bytes of text, four for each message.

        It feeds the rate limits, where a cheap number is enough; bills come from what providers report.

        Args:
            max_new_tokens: added to the sum.
            img_tokens: counted for each image and, as a stand-in, for each page-sized 2 kB of a file.
        """
        total = sum([message.token_estimate for message in self.messages]) + max_new_tokens
        for message in self.messages:
            for item in message.media:
                total += img_tokens if isinstance(item, Image) else img_tokens * (1 + len(item.data or b"") // 2048)
        return total

    @property
    def has_media(self) -> bool:
        """Whether there is an image or a file in it."""
        for message in self.messages:  # noqa: SIM110 - a generator costs more than what it looks at
            if message.media:
                return True
        return False

    @property
    def is_loaded(self) -> bool:
        """Whether no image or file has to be read from disk."""
        for message in self.messages:  # noqa: SIM110 - a generator costs as much as hashing a short prompt
            if not message.is_loaded:
                return False
        return True

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
        log: dict[str, Any] = thaw(msgspec.to_builtins(self))
        if not preserve_media:
            for message, logged in zip(self.messages, log.get("messages", ()), strict=True):
                _leave_media_out(message.parts, logged.get("parts", ()))
        return log

    @classmethod
    def from_log(cls, payload: Mapping[str, Any], *, allow_paths: bool = False) -> Self:
        """The conversation that ``to_log`` wrote.

        Args:
            payload: plain data. Logs come from anywhere, so what they say does not decide which local files are sent.
            allow_paths: take images and files that are paths, in logs of one's own.

        Raises:
            PromptError: the payload has another shape, its media were left out, or one is a path.
        """
        try:
            conversation = msgspec.convert(payload, cls)
        except (msgspec.ValidationError, RecursionError, UnicodeError) as error:
            raise PromptError(f"This is not a logged conversation: {error}") from error
        if not allow_paths:
            refuse_paths(conversation.messages)
        return conversation

    @classmethod
    def from_openai_chat(cls, messages: Sequence[Mapping[str, Any]]) -> Self:
        """From an OpenAI-style list of message objects.

        Raises:
            PromptError: a role, part or field that has no counterpart here; nothing is dropped silently.
        """
        from lm_deluge.prompt.openai_style import read_messages

        return cls(read_messages(messages))


def _leave_media_out(parts: Sequence[Part], logged: Sequence[dict[str, Any]]) -> None:
    for part, item in zip(parts, logged, strict=True):
        if isinstance(part, (Image, File)) and part.data is not None:
            del item["data"]
            item["omitted"] = {"sha256": part.digest, "bytes": len(part.data)}
        elif isinstance(part, ToolResult) and not isinstance(part.result, str):
            _leave_media_out(part.result, item["result"])
