"""A prompt in the order in which a provider reads it: block after block, each with the digest of all up to it.

That order is the order of the provider's cache, so marks, shared prefixes and predictions are statements about it.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import msgspec

from lm_deluge import canonical
from lm_deluge.models import Model
from lm_deluge.prompt import (
    Conversation,
    File,
    Image,
    Message,
    Part,
    ProviderBlock,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from lm_deluge.tool import Tool

__all__ = ["DIGEST_BYTES", "Block", "Link", "Place", "Reader", "can_carry_breakpoint", "rough_tokens"]

Place: TypeAlias = tuple[str, int, int]
"""Section, index and part, as in a breakpoint."""

DIGEST_BYTES = 16
_IMAGE_TOKENS = 1_600  # Anthropic, vision guide: a picture at full size
_MARKS = {"cache_control": "5m", "prompt_cache_breakpoint": "30m"}  # how a mark is written, and how long it lives
_LONG = 256  # characters; below it, hashing is quicker than remembering
_REMEMBERED = 64  # long texts; a run says the same few a million times


class Block(NamedTuple):
    """One piece of a prompt that a provider reads.

    Attributes:
        place: where it stands, as in a breakpoint.
        role: ``"tools"``, ``"system"``, ``"user"`` or ``"assistant"``; tool results count as the user's.
        value: the tool or the part.
    """

    place: Place
    role: str
    value: Tool | Part

    @property
    def message(self) -> Place:
        """Which message of Chat Completions it belongs to, by the place of one of its blocks: results have one each."""
        section, index, part = self.place
        if isinstance(self.value, ToolResult):
            return (section, index, part)
        return (section, -1 if section == "tools" else index, -1)

    @property
    def run(self) -> str | None:
        """What kind of run it may belong to that counts as one block: calls, or results."""
        if isinstance(self.value, ToolCall):
            return "calls"
        return "results" if isinstance(self.value, ToolResult) else None

    @property
    def users_mark(self) -> str | None:
        """The lifetime of a mark that the user wrote into a provider's own block; None where there is none."""
        if not isinstance(self.value, ProviderBlock):
            return None
        for name, usual in _MARKS.items():
            if isinstance(mark := self.value.block.get(name), dict):
                return str(mark.get("ttl") or usual)
        return None


def can_carry_breakpoint(part: Part) -> bool:
    """Whether a provider takes a mark on this part: not on thinking, and not on empty text.

    Anthropic, prompt caching guide. A block that only one provider knows gets none either, for most of those take none.
    """
    if isinstance(part, Text):
        return bool(part.text) and not part.text.isspace()  # providers count blank text as empty
    return isinstance(part, (Image, File, ToolCall, ToolResult))


class Link(NamedTuple):
    """A block in its place in the chain.

    Attributes:
        block: the block.
        digest: ``DIGEST_BYTES`` of all up to it, itself included.
        tokens: about how many it has.
    """

    block: Block
    digest: bytes
    tokens: int


_Turn: TypeAlias = Sequence[tuple[int, Message]]


class Reader:
    """Reads prompts that are sent to one model with the same tools.

    Args:
        model: who reads.
        tools: they come first.
        scope: whatever else separates caches, as bytes.
    """

    def __init__(self, model: Model, tools: Sequence[Tool] = (), *, scope: bytes = b"") -> None:
        self._wire = model.service.wire
        self._markable = model.caching.markable
        self._long = lru_cache(_REMEMBERED)(_text_digest)  # a string keeps its hash, so the same text is found at once
        self._known = _Recent()
        self._root = _digest(b"\n".join((model.base_url.encode(), model.api_name.encode(), scope)))
        self._tools: list[Link] = []
        for index, tool in enumerate(tools):
            block = Block(("tools", index, 0), "tools", tool)
            self._tools.append(self._link(self._tools[-1].digest if self._tools else self._root, block))

    def takes_mark(self, block: Block) -> bool:
        """Whether a breakpoint may stand on a block."""
        if isinstance(block.value, Tool):
            return "tool" in self._markable
        return block.value.__struct_config__.tag in self._markable and can_carry_breakpoint(block.value)

    def blocks(self, conversation: Conversation) -> Iterator[Block]:
        """The blocks of a prompt, tools first. What is not sent is left out."""
        yield from (link.block for link in self._tools)
        for turn in self._turns(conversation):
            yield from self._blocks(turn)

    def chain(self, conversation: Conversation) -> Iterator[Link]:
        """The same, each with the digest of the prompt up to it."""
        yield from self._tools
        digest = self._tools[-1].digest if self._tools else self._root
        # Anthropic, prompt caching guide: whether there are images anywhere separates the messages, all of them.
        separate = self._wire == "anthropic" and _has_images(conversation)
        for turn in self._turns(conversation):
            if separate and turn[0][1].role != "system":
                digest = _digest(digest + b"images")
                separate = False
            links = self._links(digest, turn)
            yield from links
            if links:
                digest = links[-1].digest

    def _turns(self, conversation: Conversation) -> Iterator[_Turn]:
        """The messages as the provider groups them, in its order."""
        messages = conversation.messages
        if self._wire != "anthropic":
            for index, message in enumerate(messages):
                yield ((index, message),)
            return
        # Anthropic keeps system text apart and reads it first; messages of one side that follow each other are one.
        turn: list[tuple[int, Message]] = []
        for index, message in enumerate(messages):
            if message.role == "system":
                yield ((index, message),)
        for index, message in enumerate(messages):
            if message.role == "system" or not any(map(self._is_sent, message.parts)):
                continue
            if turn and (message.role == "assistant") != (turn[0][1].role == "assistant"):
                yield turn
                turn = []
            turn.append((index, message))
        if turn:
            yield turn

    def _links(self, parent: bytes, turn: _Turn) -> Sequence[Link]:
        if len(turn) > 1:
            return list(self._chained(parent, turn))
        # The same message after the same prompt: a run says the first ones of a prompt over and over.
        index, message = turn[0]
        known = self._known.get((parent, index, id(message)), message)
        if known is None:
            known = tuple(self._chained(parent, turn))
            self._known.put((parent, index, id(message)), message, known)
        return known

    def _chained(self, parent: bytes, turn: _Turn) -> Iterator[Link]:
        message: Place | None = None
        for block in self._blocks(turn):
            if self._wire != "anthropic" and block.message != message:
                # Where a message ends is part of the prompt, unless those of one side are joined.
                parent = _digest(parent + b"message")
                message = block.message
            link = self._link(parent, block)
            yield link
            parent = link.digest

    def _blocks(self, turn: _Turn) -> list[Block]:
        found = [
            Block(("messages", index, position), "user" if message.role == "tool" else message.role, part)
            for index, message in turn
            for position, part in enumerate(message.parts)
            if self._is_sent(part)
        ]
        if len(found) > 1:  # results of tools open a turn, wherever they were given
            found.sort(key=lambda block: block.run != "results")
        return found

    def _is_sent(self, part: Part) -> bool:
        if isinstance(part, Text):
            return bool(part.text) and not (self._wire == "anthropic" and part.text.isspace())
        if isinstance(part, Thinking):
            return self._wire == "anthropic" and bool(part.signature or part.redacted)
        return not isinstance(part, ProviderBlock) or part.wire == self._wire

    def _link(self, parent: bytes, block: Block) -> Link:
        value = block.value
        if isinstance(value, Text):
            own = self._long(value.text) if len(value.text) >= _LONG else _text_digest(value.text)
        elif isinstance(value, Tool):
            own = _tool_digest(value)
        else:
            own = _digest(canonical.encode(value.__canonical__()))
        return Link(block, _digest(parent + block.role.encode() + b"\n" + own), rough_tokens(value, wire=self._wire))


class _Recent:
    """Links of messages that came up more than once after the same prompt; the latest few thousand of them.

    A message is held, and known again by being the same object, only once it was seen a second time. So what each
    prompt has for itself is not kept alive.
    """

    _CAPACITY = 8_192

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[bytes, int, int], tuple[Message, tuple[Link, ...]] | None] = OrderedDict()

    def get(self, key: tuple[bytes, int, int], message: Message) -> tuple[Link, ...] | None:
        found = self._held.get(key)
        if found is None or found[0] is not message:
            return None
        self._held.move_to_end(key)
        return found[1]

    def put(self, key: tuple[bytes, int, int], message: Message, links: tuple[Link, ...]) -> None:
        self._held[key] = (message, links) if key in self._held else None
        if len(self._held) > self._CAPACITY:
            self._held.popitem(last=False)


def _has_images(conversation: Conversation) -> bool:
    for message in conversation.messages:
        for part in message.parts:
            if type(part) is Image:
                return True
            if isinstance(part, ToolResult) and not isinstance(part.result, str):
                found = any(type(item) is Image for item in part.result)
                if found:
                    return True
    return False


def _text_digest(text: str) -> bytes:
    return _digest(text.encode("utf-8", "surrogatepass"))


def _tool_digest(tool: Tool) -> bytes:
    # With its keys in their order: a schema whose properties change places is another one to the provider's cache.
    plain = (tool.name, tool.description, tool.strict, tool.parameters)
    return _digest(msgspec.json.encode(plain))


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def rough_tokens(value: Tool | Part, *, wire: str) -> int:
    """About how many tokens a block has: one for four bytes of text, and of a tool's JSON."""
    if isinstance(value, Tool):
        plain = {"name": value.name, "description": value.description}
        sent = (
            {**plain, "input_schema": value.parameters}
            if wire == "anthropic"
            else {"type": "function", "function": {**plain, "parameters": value.parameters}}
        )
        return -(-len(msgspec.json.encode(sent)) // 4)
    if isinstance(value, Text):
        size = len(value.text) if value.text.isascii() else len(value.text.encode("utf-8", "replace"))
        return -(-size // 4)
    return Conversation((Message("user", (value,)),)).count_tokens(img_tokens=_IMAGE_TOKENS)
