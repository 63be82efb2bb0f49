"""A prompt in the order in which a provider reads it: block after block, each with the digest of all up to it.

That order is the order of the provider's cache, so breakpoints, shared prefixes and predictions are statements about
it.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeAlias

import msgspec

from lm_deluge import canonical
from lm_deluge.models import Model
from lm_deluge.prompt import Conversation, File, Image, Message, Part, Text, ToolResult
from lm_deluge.prompt_cache.blocks import Block, Link, can_carry_breakpoint, rough_tokens
from lm_deluge.prompt_cache.trunks import LongTexts, Trunk, Trunks, digest_of
from lm_deluge.providers import wire_format
from lm_deluge.tool import Tool

__all__ = ["Reader"]

_LONG = 256  # characters; below it, hashing is quicker than remembering

# How blocks come into a digest. Each digest has the same length, and no role begins like what may stand before it.
_MESSAGE = b"message\n"
_IMAGES = b"images\n"
_SIDES = {"system": "system", "user": "user", "assistant": "assistant", "tool": "user"}
_ROLES = ("system", "user", "assistant")
_TEXT = {role: f"{role} text\n".encode() for role in _ROLES}
_LONG_TEXT = {role: f"{role} long text\n".encode() for role in _ROLES}


_Place: TypeAlias = tuple[int, int, Part]
"""A part that is sent, behind the index of its message and its own."""

_Step: TypeAlias = tuple[int, int, Part, str, bytes]
"""The same, with the role and with what comes before it in the digest."""


class Reader:
    """Reads prompts that are sent to one model with the same tools. What each has for itself is not kept alive.

    Args:
        model: who reads.
        tools: they come first.
        scope: anything else that separates caches, as bytes.
    """

    def __init__(self, model: Model, tools: Sequence[Tool] = (), *, scope: bytes = b"") -> None:
        self._format = wire_format(model)
        self._is_sent = self._format.is_sent
        self._carriers = model.caching.carriers
        self._takes_text = "text" in self._carriers
        self._texts = LongTexts()
        self._trunks = Trunks()
        self._start = digest_of(b"\n".join((model.base_url.encode(), model.api_name.encode(), scope)))
        self._tools: list[Link] = []
        for index, tool in enumerate(tools):
            self._start = digest_of(self._start + b"tools\n" + _tool_digest(tool))
            size = rough_tokens(tool, self._format)
            self._tools.append(Link(Block(("tools", index, 0), "tools", tool), self._start, size))

    def takes_breakpoint(self, block: Block) -> bool:
        """Whether a breakpoint may stand on a block."""
        value = block.value
        if type(value) is Text:
            return self._takes_text and can_carry_breakpoint(value)
        if isinstance(value, Tool):
            return "tool" in self._carriers
        return value.__struct_config__.tag in self._carriers and can_carry_breakpoint(value)

    def blocks(self, conversation: Conversation) -> Iterator[Block]:
        """The blocks of a prompt, tools first. What is not sent is left out."""
        yield from (link.block for link in self._tools)
        for index, position, part, role, _ in self._steps(conversation.messages):
            yield Block(("messages", index, position), role, part)

    def chain(self, conversation: Conversation) -> Iterator[Link]:
        """The same, each with the digest of the prompt up to it."""
        yield from self._tools
        known, rest = self._read(conversation)
        yield from known.links
        for step, digest in rest:
            yield self._link(step, digest)

    def digests(self, conversation: Conversation) -> list[bytes]:
        """Those of the chain alone, in half the time."""
        known, rest = self._read(conversation)
        return [*(link.digest for link in (*self._tools, *known.links)), *(digest for _, digest in rest)]

    def _read(self, conversation: Conversation) -> tuple[Trunk, Iterator[tuple[_Step, bytes]]]:
        """What is known of how a prompt begins, and all that comes behind."""
        messages = conversation.messages
        has_images = self._format.images_change_cache and _has_images(conversation)
        known, common = self._trunks.nothing, 0
        if len(messages) > Trunks.LEAST:
            known = self._trunks.find(messages, has_images=has_images)
            common = self._end_of_turn(messages, self._trunks.in_common(conversation, known))
            shared = len(known.messages) or common
            if shared and self._format.reads_system_first and _has_system(messages, shared):
                known, common = self._trunks.nothing, 0
        return known, self._behind(known, messages, common, has_images=has_images)

    def _behind(
        self, known: Trunk, messages: Sequence[Message], common: int, *, has_images: bool
    ) -> Iterator[tuple[_Step, bytes]]:
        """Behind what is known. Once it has been read, so many messages are."""
        digest = known.links[-1].digest if known.links else self._start
        is_new = common >= max(Trunks.LEAST, len(known.messages) + 1)
        new: list[tuple[_Step, bytes]] = []
        for step in self._steps(messages, len(known.messages), has_images=has_images):
            index, _, part, role, opening = step
            if is_new and index >= common:
                more = [self._link(*each) for each in new]
                size = known.size + sum(map(_size, more))
                self._trunks.hold(Trunk(messages[:common], has_images, [*known.links, *more], size))
                is_new = False
            digest = digest_of(digest + opening + self._content(part, role))
            if is_new:
                new.append((step, digest))
            yield step, digest

    def _link(self, step: _Step, digest: bytes) -> Link:
        index, position, part, role, _ = step
        block = Block(("messages", index, position), role, part)
        return Link(block, digest, rough_tokens(part, self._format))

    def _end_of_turn(self, messages: Sequence[Message], most: int) -> int:
        """Behind the last thing that the model says in so many messages: what comes next cannot change their order."""
        while most and not (messages[most - 1].role == "assistant" and self._sent(most - 1, messages[most - 1])):
            most -= 1
        return most

    def _steps(self, messages: Sequence[Message], start: int = 0, *, has_images: bool = False) -> Iterator[_Step]:
        """What is sent from a message on, in the provider's order. No system text and no whole turn come before it."""
        system_apart = self._format.reads_system_first
        if system_apart and not start:
            for index, message in enumerate(messages):
                if message.role == "system":
                    for _, position, part in self._sent(index, message):
                        yield index, position, part, "system", b""
        if not self._format.joins_turns:
            # Where a message ends is part of the prompt, and results of tools have one each.
            for index, message in enumerate(islice(messages, start, None), start):
                role = _SIDES[message.role]
                if role == "system" and system_apart:
                    continue
                opening = _MESSAGE
                for _, position, part in self._sent(index, message):
                    yield index, position, part, role, opening
                    if type(part) is not ToolResult:
                        opening = b""
            return
        opening = _IMAGES if has_images and not start else b""
        for role, turn in self._turns(messages, start):
            for index, position, part in turn:
                yield index, position, part, role, opening
                opening = b""

    def _turns(self, messages: Sequence[Message], start: int) -> Iterator[tuple[str, Sequence[_Place]]]:
        """What one side says before the other goes on."""
        side = ""
        turn: list[_Place] = []
        for index, message in enumerate(islice(messages, start, None), start):
            role = _SIDES[message.role]
            if role == "system" or not (sent := self._sent(index, message)):
                continue
            if role != side:
                if turn:
                    yield side, self._in_order(turn) if side == "user" else turn
                side, turn = role, []
            turn += sent
        if turn:
            yield side, self._in_order(turn) if side == "user" else turn

    def _sent(self, index: int, message: Message) -> Sequence[_Place]:
        """The parts of a message that are sent."""
        parts = message.parts
        if len(parts) == 1:
            return ((index, 0, parts[0]),) if self._is_sent(parts[0]) else ()
        return self._in_order([(index, at, part) for at, part in enumerate(parts) if self._is_sent(part)])

    def _in_order(self, places: list[_Place]) -> list[_Place]:
        """Those first that open a turn."""
        if len(places) > 1:
            opens_turn = self._format.opens_turn
            places.sort(key=lambda place: not opens_turn(place[2]))
        return places

    def _content(self, part: Part, role: str) -> bytes:
        """What a part adds to the digest: who says it, its kind, and its content or a digest of that."""
        if type(part) is Text:
            if len(part.text) < _LONG:
                return _TEXT[role] + part.text.encode("utf-8", "surrogatepass")
            return _LONG_TEXT[role] + self._texts.digest(part.text)
        if type(part) is ToolResult and isinstance(part.result, str) and len(part.result) >= _LONG:
            rest = canonical.encode([role, part.tool_call_id, part.is_error])
            return b"long result\n" + self._texts.digest(part.result) + rest
        return role.encode() + b"\n" + canonical.encode(part.__canonical__())


def _has_system(messages: Sequence[Message], start: int) -> bool:
    return any(message.role == "system" for message in islice(messages, start, None))


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


def _size(link: Link) -> int:
    """Bytes of a block, about."""
    value = link.block.value
    inside = value.result if isinstance(value, ToolResult) and not isinstance(value.result, str) else (value,)
    return 4 * link.tokens + sum(len(item.data or b"") for item in inside if isinstance(item, (Image, File)))


def _tool_digest(tool: Tool) -> bytes:
    # With its keys in their order: a schema whose properties change places is another one to the provider's cache.
    plain = (tool.name, tool.description, tool.strict, tool.parameters)
    return digest_of(msgspec.json.encode(plain))
