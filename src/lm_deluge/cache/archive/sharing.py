"""Requests divided into lines that many entries share, and put together again.

The division is that of ``record``, in JSON: what is long has a line of its own, and messages are gathered into prefixes
that name the one before. It depends on the messages alone, so requests that begin alike share those lines.
"""

import tempfile
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from lm_deluge.cache.archive._recent import Recent
from lm_deluge.cache.archive.bundle import (
    BundleWriter,
    Line,
    MediaLine,
    MessageLine,
    ParametersLine,
    PrefixLine,
    RequestPart,
    open_line,
)
from lm_deluge.cache.record import StoredRequest
from lm_deluge.errors import DamagedEntryError
from lm_deluge.prompt import Conversation, File, Image, Message, ToolResult

__all__ = ["SharedLines", "divide"]

_INLINE_BYTES = 1024
_PREFIX_BYTES = 2048
_MOST_MESSAGES = 100_000
_ADDRESS = "line:"
_IN_MEMORY = 16 * 1024 * 1024

_encoder = msgspec.json.Encoder()


def divide(request: StoredRequest, writer: BundleWriter) -> RequestPart:
    """What an entry's own line says of its request. The rest is written as shared lines.

    Raises:
        DamagedEntryError: a line would be too long.
    """
    before: str | None = None
    messages: list[Message | str] = []
    size = 0
    for message in request.conversation.messages:
        if size > _PREFIX_BYTES:
            before = writer.share(PrefixLine(messages, before))
            messages, size = [], 0
        message = _with_media(message, lambda item: _move_out(item, writer))
        taken = len(_encoder.encode(message))
        if taken <= _INLINE_BYTES:
            messages.append(message)
            size += taken
        else:
            name = writer.share(MessageLine(message))
            messages.append(name)
            size += len(name)
    parameters = request.parameters
    is_long = parameters is not None and len(_encoder.encode(parameters)) > _INLINE_BYTES
    return RequestPart(
        messages=messages,
        before=before,
        parameters=writer.share(ParametersLine(parameters)) if parameters is not None and is_long else parameters,
        scope=request.scope,
        sample=request.sample,
        redacted=request.redacted,
    )


class SharedLines:
    """The shared lines of a bundle that is being read, and requests put together from them.

    Lines wait in a temporary file, so that a bundle of any size can be read; what was used last is kept in memory.
    """

    def __init__(self) -> None:
        # Unnamed where the system allows, and never readable by others.
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by __exit__
        self._places: dict[bytes, tuple[int, int]] = {}
        self._recent: Recent[str, Line] = Recent()
        self._prefixes: Recent[str, Conversation] = Recent()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, name: str, line: bytes) -> None:
        """Keep a line that was opened, for those that refer to it."""
        if (short := bytes.fromhex(name)) in self._places:
            return
        self._places[short] = (self._file.seek(0, 2), len(line))
        self._file.write(line)

    def request(self, part: RequestPart) -> StoredRequest:
        """The request of an entry.

        Raises:
            DamagedEntryError: it refers to a line that is missing or of another kind, or has media that no stored
                request has.
        """
        conversation = self._prefix(part.before)
        _check_length(len(conversation.messages) + len(part.messages))
        for message in part.messages:
            conversation = conversation.add(self._message(message))
        parameters = part.parameters
        if isinstance(parameters, str):
            parameters = self._line(parameters, ParametersLine).parameters
        return StoredRequest(
            conversation=conversation,
            parameters=parameters,
            scope=part.scope,
            sample=part.sample,
            redacted=part.redacted,
        )

    def _prefix(self, name: str | None) -> Conversation:
        """The conversation that a prefix stands for. The same object for all that share it, so it is hashed once."""
        if name is None:
            return Conversation()
        if (known := self._prefixes.get(name)) is not None:
            return known
        start: Sequence[Message] = ()
        lines: list[PrefixLine] = []
        count = 0
        before: str | None = name
        while before is not None:
            if (known := self._prefixes.get(before)) is not None:
                start = known.messages
                break
            lines.append(line := self._line(before, PrefixLine))
            before = line.before
            count += 1 + len(line.messages)
            _check_length(count)
        _check_length(count + len(start))
        rest = [self._message(message) for line in reversed(lines) for message in line.messages]
        conversation = Conversation((*start, *rest))
        self._prefixes.put(name, conversation, _weight(conversation))
        return conversation

    def _message(self, message: Message | str) -> Message:
        shown: Message = self._line(message, MessageLine).message if isinstance(message, str) else message
        whole = _with_media(shown, self._move_in)
        if not whole.is_loaded:
            # A path would make whoever reads the bundle open a file of theirs.
            raise DamagedEntryError("its request has an image or a file without its content")
        return whole

    def _move_in(self, item: Image | File) -> Image | File:
        if item.url is None or not item.url.startswith(_ADDRESS):
            return item
        data = self._line(item.url.removeprefix(_ADDRESS), MediaLine).data
        try:
            return msgspec.structs.replace(item, data=data, url=None)
        except ValueError as error:
            raise DamagedEntryError(f"its media are not what they should be: {error}") from error

    def _line(self, name: str, kind: Callable[..., Any]) -> Any:
        line = self._recent.get(name)
        if line is None:
            place = self._places.get(_digest(name))
            if place is None:
                raise DamagedEntryError(f"it refers to line {name[:16]}…, which is missing before it")
            self._file.seek(place[0])
            _, line = open_line(self._file.read(place[1]))
            self._recent.put(name, line, place[1])
        if type(line) is not kind:
            raise DamagedEntryError(f"it refers to line {name[:16]}…, which is of another kind")
        return line


def _move_out(item: Image | File, writer: BundleWriter) -> Image | File:
    if not item.data:
        return item
    return msgspec.structs.replace(item, data=None, url=_ADDRESS + writer.share(MediaLine(item.data)))


def _with_media(message: Message, change: Callable[[Any], Any]) -> Message:
    if not message.media:
        return message
    return Message(message.role, [_changed(part, change) for part in message.parts])


def _changed(part: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(part, (Image, File)):
        return change(part)
    if isinstance(part, ToolResult) and not isinstance(part.result, str):
        result: Sequence[Any] = part.result
        return ToolResult(part.tool_call_id, tuple(_changed(item, change) for item in result), part.is_error)
    return part


def _check_length(messages: int) -> None:
    # Names are digests of what they name, so a chain cannot run in a circle; but it could be very long.
    if messages > _MOST_MESSAGES:
        raise DamagedEntryError(f"its request has more than {_MOST_MESSAGES:,} messages")


def _weight(conversation: Conversation) -> int:
    """Bytes that a conversation takes in memory, roughly."""
    return sum(
        100 + 4 * message.token_estimate + sum(len(item.data or b"") for item in message.media)
        for message in conversation.messages
    )


def _digest(name: str) -> bytes:
    try:
        return bytes.fromhex(name)
    except ValueError:
        return b""
