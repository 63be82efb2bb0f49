"""Requests divided into lines that many entries share, and put together again.

The division is that of ``record``, in JSON: what is long has a line of its own, and messages are gathered into prefixes
that name the one before. It depends on the messages alone, so requests that begin alike share those lines.
"""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from lm_deluge.cache.admin.archive._recent import Recent
from lm_deluge.cache.admin.archive.bundle import (
    BundleWriter,
    Line,
    MediaLine,
    MessageLine,
    ParametersLine,
    PrefixLine,
    RequestPart,
    open_line,
)
from lm_deluge.cache.record import StoredRequest, check_size, with_media
from lm_deluge.errors import DamagedEntryError
from lm_deluge.prompt import Conversation, File, Image, Message

__all__ = ["SharedLines", "divide"]

_INLINE_BYTES = 1024
_PREFIX_BYTES = 2048
_MOST_MESSAGES = 100_000
_ADDRESS = "line:"
_IN_MEMORY = 16 * 1024 * 1024

_encoder = msgspec.json.Encoder()


def divide(request: StoredRequest, writer: BundleWriter) -> RequestPart:
    """The request as the entry's own line holds it. The rest is written as shared lines.

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
        message = with_media(message, lambda item: _move_out(item, writer))
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


class _Shared(NamedTuple):
    """What is known of a shared line without decoding it again.

    Attributes:
        start, length: its place in the file.
        whole: bytes of all that it stands for: its own, and those of the lines that it names, for each naming.
        messages: how many messages a prefix stands for, and how many prefixes it is made of.
    """

    start: int
    length: int
    whole: int
    messages: int


class SharedLines:
    """The shared lines of a bundle that is being read, and requests put together from them.

    Lines wait in a temporary file, so that a bundle of any size can be read; what was used last is kept in memory.
    What a request stands for is known by its lengths before any of it is decoded: a few lines that name each other many
    times can be gigabytes.
    """

    def __init__(self) -> None:
        # Without a name where the system allows it, and never readable by others.
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by close()
        self._shared: dict[bytes, _Shared] = {}
        self._recent: Recent[str, Line] = Recent()
        self._prefixes: Recent[str, Conversation] = Recent()

    def close(self) -> None:
        self._file.close()

    def add(self, name: str, data: bytes, line: Line) -> None:
        """Keep a line that was opened, for those that refer to it.

        Args:
            name: its name.
            data: its bytes, without the newline.
            line: what they say.

        Raises:
            DamagedEntryError: it refers to a line that is missing.
        """
        if (digest := _digest(name)) in self._shared:
            return
        whole, messages = self._measure(len(data), line)
        self._shared[digest] = _Shared(self._file.seek(0, 2), len(data), whole, messages)
        self._file.write(data)

    def request(self, part: RequestPart) -> StoredRequest:
        """The request of an entry.

        Raises:
            DamagedEntryError: it refers to a line that is missing or of another kind, has media that no stored request
                has, or stands for more than any stored request holds.
        """
        whole, messages = self._counted(part.before, part.messages)
        if isinstance(part.parameters, str):
            whole += self._find(part.parameters).whole
        check_size(whole)
        if messages > _MOST_MESSAGES:
            raise DamagedEntryError(f"its request has more than {_MOST_MESSAGES:,} messages")
        conversation = self._prefix(part.before).with_messages(map(self._message, part.messages))
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

    def _measure(self, length: int, line: Line) -> tuple[int, int]:
        """``whole`` and ``messages`` of a line of this length."""
        match line:
            case MediaLine():
                return len(line.data), 0
            case MessageLine():
                return length + self._media_bytes(line.message), 0
            case PrefixLine():
                named, messages = self._counted(line.before, line.messages)
                return length + named, messages + 1
        return length, 0

    def _counted(self, before: str | None, messages: Sequence[Message | str]) -> tuple[int, int]:
        """Bytes of all that is named here, for each naming, and how many messages and prefixes there are."""
        start = (0, 0) if before is None else self._find(before)[2:]
        named = sum(self._find(item).whole if isinstance(item, str) else self._media_bytes(item) for item in messages)
        return start[0] + named, start[1] + len(messages)

    def _media_bytes(self, message: Message) -> int:
        urls: Iterable[str] = (item.url or "" for item in message.media)
        return sum(self._find(url.removeprefix(_ADDRESS)).whole for url in urls if url.startswith(_ADDRESS))

    def _prefix(self, name: str | None) -> Conversation:
        """The conversation that a prefix stands for. The same object for all that share it, so it is hashed once."""
        if name is None:
            return Conversation()
        if (known := self._prefixes.get(name)) is not None:
            return known
        start: Sequence[Message] = ()
        lines: list[PrefixLine] = []
        before: str | None = name
        while before is not None:
            if (known := self._prefixes.get(before)) is not None:
                start = known.messages
                break
            lines.append(line := self._line(before, PrefixLine))
            before = line.before
        rest = [self._message(message) for line in reversed(lines) for message in line.messages]
        conversation = Conversation((*start, *rest))
        self._prefixes.put(name, conversation, _weight(conversation))
        return conversation

    def _message(self, message: Message | str) -> Message:
        shown: Message = self._line(message, MessageLine).message if isinstance(message, str) else message
        whole = with_media(shown, self._move_in)
        if not whole.is_loaded:
            # A path would make the reader of the bundle open a file of their own.
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
            place = self._find(name)
            self._file.seek(place.start)
            _, line = open_line(self._file.read(place.length))
            self._recent.put(name, line, place.length)
        if type(line) is not kind:
            raise DamagedEntryError(f"it refers to line {name[:16]}…, which is of another kind")
        return line

    def _find(self, name: str) -> _Shared:
        # A name is the digest of its line and comes after it, so no line refers to itself.
        found = self._shared.get(_digest(name))
        if found is None:
            raise DamagedEntryError(f"it refers to line {name[:16]}…, which is missing before it")
        return found


def _move_out(item: Image | File, writer: BundleWriter) -> Image | File:
    if not item.data:
        return item
    return msgspec.structs.replace(item, data=None, url=_ADDRESS + writer.share(MediaLine(item.data)))


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
