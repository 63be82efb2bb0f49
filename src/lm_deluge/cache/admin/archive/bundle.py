"""The format of a bundle: JSON lines, each of which says its own SHA-256. Nothing in it is ever executed.

A line is ``{"sha256":"<64 hexadecimal digits>",`` and the rest of a JSON object; the digest is that of the same object
without this member, ``{`` and the rest. It is taken over bytes, so any changed byte shows. It is also the line's name:
what many entries share has a line of its own before them, once, and they refer to it by its digest::

    header        format, version, when it was written
    media         content of an image or a file, in base64
    message       a long message; its images and files are addresses "line:<name of a media line>"
    prefix        messages, or names of their lines, that follow those of another prefix
    parameters    long parameters, such as those with many tools
    run           name and tags of a run that bought some of the entries
    entry         key, request, response and facts
    end           how many lines and entries there are, and the SHA-256 of all lines before it
"""

import hashlib
from collections.abc import Callable

import msgspec

from lm_deluge import canonical
from lm_deluge._json import JsonReader
from lm_deluge._printable import printable_json
from lm_deluge.cache.entry import Facts
from lm_deluge.cache.record import Scope
from lm_deluge.cache.runs import Run
from lm_deluge.errors import DamagedEntryError
from lm_deluge.prompt import Message
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse

__all__ = [
    "FORMAT",
    "MAX_LINE_BYTES",
    "VERSION",
    "BundleWriter",
    "End",
    "EntryLine",
    "Header",
    "Line",
    "MediaLine",
    "MessageLine",
    "ParametersLine",
    "PrefixLine",
    "RequestPart",
    "RunLine",
    "open_line",
    "seal",
]

FORMAT = "lm_deluge bundle"
VERSION = 1
MAX_LINE_BYTES = 256 * 1024 * 1024
"""The longest line that is written or read. A hostile file must not fill the memory."""

_START = b'{"sha256":"'
_SEPARATOR = b'",'
_NAME = slice(len(_START), len(_START) + 64)
_REST = _NAME.stop + len(_SEPARATOR)


class Header(msgspec.Struct, frozen=True, kw_only=True, tag="header", forbid_unknown_fields=True):
    """The first line.

    Attributes:
        format: always ``FORMAT``.
        version: of the format. A reader refuses those that it does not know.
        keys: the key scheme of the entries.
        created: when the bundle was written, in seconds since the Unix epoch.
    """

    format: str
    version: int
    keys: int
    created: float


class MediaLine(msgspec.Struct, frozen=True, tag="media", forbid_unknown_fields=True):
    """The content of an image or a file."""

    data: bytes


class MessageLine(msgspec.Struct, frozen=True, tag="message", forbid_unknown_fields=True):
    """A message that is too long to be repeated."""

    message: Message


class PrefixLine(msgspec.Struct, frozen=True, tag="prefix", omit_defaults=True, forbid_unknown_fields=True):
    """Messages, or names of their lines, after those of the prefix ``before``."""

    messages: list[Message | str]
    before: str | None = None


class ParametersLine(msgspec.Struct, frozen=True, tag="parameters", forbid_unknown_fields=True):
    """Parameters that are too long to be repeated."""

    parameters: Parameters


class RunLine(msgspec.Struct, frozen=True, tag="run", forbid_unknown_fields=True):
    """A run without its report: what it cost stays in the store of its owner."""

    run: Run


class RequestPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The request of an entry. Fields are those of ``StoredRequest``; messages are divided as in ``PrefixLine``."""

    messages: list[Message | str] = []
    before: str | None = None
    parameters: Parameters | str | None = None
    scope: Scope = "conversation"
    sample: int = 0
    redacted: bool = False


class EntryLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="entry", forbid_unknown_fields=True):
    """One entry.

    Attributes:
        key: in hexadecimal.
        namespace: as in ``Entry``.
        request: None if none was stored, or it could not be read.
        response: without ``raw_body``.
        body: ``raw_body``, if it is UTF-8.
        body_base64: ``raw_body``, if it is not.
        exact: MessagePack of ``response`` where JSON cannot hold it: an infinite log probability, for example.
        facts: as in ``Entry``.
        fingerprint: of the parameters, in hexadecimal (see ``codec``); empty where it is not known.
        expires: as in ``Entry``.
    """

    key: str
    namespace: str = "default"
    request: RequestPart | None = None
    response: APIResponse
    body: str | None = None
    body_base64: bytes | None = None
    exact: bytes | None = None
    facts: Facts = Facts()
    fingerprint: str = ""
    expires: float | None = None


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end", forbid_unknown_fields=True):
    """The last line.

    Attributes:
        lines: how many come before it.
        entries: how many of those are entries.
        all: SHA-256 of them, newlines included, in hexadecimal.
    """

    lines: int
    entries: int
    all: str


Line = Header | MediaLine | MessageLine | PrefixLine | ParametersLine | RunLine | EntryLine | End

_encoder = msgspec.json.Encoder()
_reader: JsonReader[Line] = JsonReader(Line)


def seal(line: Line) -> tuple[str, bytes]:
    """The name of a line, and its bytes with the newline.

    Raises:
        DamagedEntryError: it is longer than any line that is read.
    """
    # Not encode(): up to msgspec 0.23 it crashes the process where there is no memory for its result, and this raises.
    encoded = bytearray()
    _encoder.encode_into(line, encoded)
    content = printable_json(bytes(encoded))
    if len(content) > MAX_LINE_BYTES - _REST:
        raise DamagedEntryError(f"it takes a line of {len(content):,} bytes, and readers take {MAX_LINE_BYTES:,}")
    name = hashlib.sha256(content).hexdigest()
    return name, b"".join((_START, name.encode(), _SEPARATOR, memoryview(content)[1:], b"\n"))


def open_line(line: bytes) -> tuple[str, Line]:
    """The name and the content of a line, without its newline.

    Raises:
        DamagedEntryError: it is not what was written.
    """
    try:
        if not line.startswith(_START) or line[_NAME.stop : _REST] != _SEPARATOR:
            raise DamagedEntryError("it does not begin with its checksum")
        content = b"{" + line[_REST:]
        name = hashlib.sha256(content).hexdigest()
        if line[_NAME] != name.encode():
            raise DamagedEntryError("its checksum does not match")
        return name, _reader.read(content)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedEntryError(f"it is no line of a bundle: {error}") from error


class BundleWriter:
    """Writes the lines of one bundle in order, and each shared line once.

    Args:
        write: takes the bytes of each line.
        created: for the header.
    """

    def __init__(self, write: Callable[[bytes], object], *, created: float) -> None:
        self._write = write
        self._all = hashlib.sha256()
        self._shared: set[bytes] = set()
        self.lines = 0
        self.entries = 0
        self.bytes = 0
        self._put(seal(Header(format=FORMAT, version=VERSION, keys=canonical.SCHEME, created=created))[1])

    def share(self, line: MediaLine | MessageLine | PrefixLine | ParametersLine | RunLine) -> str:
        """The name of a line that others refer to; it is written if it was not yet.

        Raises:
            DamagedEntryError: it is longer than any line that is read.
        """
        name, sealed = seal(line)
        if (short := bytes.fromhex(name)) not in self._shared:
            self._put(sealed)
            self._shared.add(short)
        return name

    def add(self, line: EntryLine) -> None:
        """Write an entry.

        Raises:
            DamagedEntryError: it is longer than any line that is read.
        """
        self._put(seal(line)[1])
        self.entries += 1

    def finish(self) -> None:
        """Write the last line."""
        self._put(seal(End(lines=self.lines, entries=self.entries, all=self._all.hexdigest()))[1])

    def _put(self, sealed: bytes) -> None:
        self._write(sealed)
        self._all.update(sealed)
        self.lines += 1
        self.bytes += len(sealed)
