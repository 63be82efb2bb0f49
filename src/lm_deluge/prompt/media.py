"""Images and files: where their content is, what kind it is, and reading it.

A path is read when the prompt is keyed and sent, not when it is written down, so one missing file is one error
response and not the end of a list comprehension. A URL is passed on as a URL: the provider fetches it, and a local hit
needs no network. Reading blocks, so the engine does it in a worker thread.
"""

import base64
import binascii
import io
import mimetypes
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self
from urllib.parse import unquote_to_bytes

import msgspec

from lm_deluge.canonical import content_digest
from lm_deluge.errors import MediaError

__all__ = ["File", "Image", "Media", "MediaInput"]

type_of_magic: Mapping[bytes, str] = MappingProxyType(
    {
        b"\x89PNG\r\n\x1a\n": "image/png",
        b"\xff\xd8\xff": "image/jpeg",
        b"GIF87a": "image/gif",
        b"GIF89a": "image/gif",
        b"%PDF-": "application/pdf",
    }
)

MediaInput = bytes | bytearray | memoryview | str | Path | io.IOBase

_MAX_BYTES = 500 * 1024 * 1024  # the largest file any provider takes (Anthropic Files API)


class Media(msgspec.Struct, frozen=True, kw_only=True, dict=True, omit_defaults=True):
    """What an image and a file have in common. Exactly one of ``data``, ``path`` and ``url`` is set.

    Attributes:
        data: the content, in memory.
        path: a local file, read when the prompt is used.
        url: an ``http`` or ``https`` address that the provider fetches.
        media_type: for example ``"image/png"``; found from the content when not given.
    """

    data: bytes | None = None
    path: str | None = None
    url: str | None = None
    media_type: str | None = None

    @classmethod
    def of(cls, source: MediaInput | Self, **fields: Any) -> Self:
        """From a path, bytes, a binary file object, a data URL, base64 text or an ``http(s)`` URL.

        Raises:
            MediaError: a data URL that does not decode.
            TypeError: another type.
        """
        if isinstance(source, cls):
            return msgspec.structs.replace(source, **fields) if fields else source
        if isinstance(source, (bytes, bytearray, memoryview)):
            return cls(data=bytes(source), **fields)
        if isinstance(source, Path):
            return cls(path=str(source), **fields)
        if isinstance(source, io.IOBase):
            return cls(data=source.read(), **fields)
        if not isinstance(source, str):
            raise TypeError(
                f"{cls.__name__} takes a path, bytes, a data URL, base64 text or a URL, not {type(source).__name__}."
            )
        if source.startswith("data:"):
            declared, data = _read_data_url(source)
            fields["media_type"] = fields.get("media_type") or declared
            return cls(data=data, **fields)
        if source.startswith(("http://", "https://")):
            return cls(url=source, **fields)
        decoded = _decode_known_base64(source)
        if decoded is not None:
            return cls(data=decoded, **fields)
        return cls(path=source, **fields)

    @property
    def is_loaded(self) -> bool:
        """Whether the content needs no reading: it is in memory with a known type, or the provider fetches it."""
        return self.url is not None or (self.data is not None and self.media_type is not None)

    def load(self) -> Self:
        """The same content in memory, with its type. Blocks while a file is read.

        Raises:
            MediaError: the file is missing, unreadable, empty, too large, or of an unknown kind.
        """
        if self.is_loaded:
            return self
        data = self.data if self.data is not None else self._read()
        if not data:
            raise MediaError(f"{self._noun()} is empty.")
        media_type = self.media_type or self._type_of(data)
        return msgspec.structs.replace(self, data=data, path=None, media_type=media_type)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content in hexadecimal; of the address for a URL, which is not fetched."""
        if self.url is not None:
            return content_digest(self.url.encode())
        return content_digest(self.load().data or b"")

    def base64(self) -> str:
        """The content in base64, as providers take it. Blocks if the content is still a path."""
        return base64.b64encode(self.load().data or b"").decode("ascii")

    def data_url(self) -> str:
        """The content as a ``data:`` URL."""
        loaded = self.load()
        return f"data:{loaded.media_type};base64,{loaded.base64()}"

    def _identity(self) -> list[object]:
        if self.url is not None:
            return ["url", self.url]
        loaded = self.load()
        return [loaded.media_type, loaded.digest]

    def _type_of(self, data: bytes) -> str:
        found = sniff(data)
        if found is None:
            raise MediaError(f"The kind of {self._noun()} cannot be told from its content. Pass media_type=.")
        return found

    def _noun(self) -> str:
        kind = type(self).__name__
        return f"{kind} {self.path!r}" if self.path is not None else f"{kind} of {len(self.data or b'')} bytes"

    def _read(self) -> bytes:
        path = Path(self.path or "")
        try:
            size = path.stat().st_size
            if size > _MAX_BYTES:
                raise MediaError(f"{self._noun()} has {size:,} bytes; no provider takes more than {_MAX_BYTES:,}.")
            return path.read_bytes()
        except FileNotFoundError as error:
            raise MediaError(f"{self._noun()} does not exist.") from error
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            raise MediaError(f"{self._noun()} cannot be read: {error}.") from error


class Image(Media, frozen=True, kw_only=True, dict=True, omit_defaults=True, tag="image", tag_field="type"):
    """An image: PNG, JPEG, GIF or WebP.

    Attributes:
        detail: how closely OpenAI models look: ``"low"``, ``"high"`` or ``"auto"``. Other providers have no such knob.
    """

    detail: Literal["low", "high", "auto"] | None = None

    def __canonical__(self) -> object:
        identity: list[object] = ["image", *self._identity()]
        if self.detail is not None:
            identity.append({"detail": self.detail})
        return identity

    def __repr__(self) -> str:
        return _short_repr(self)

    def _type_of(self, data: bytes) -> str:
        found = sniff(data)
        if found is None or not found.startswith("image/"):
            raise MediaError(
                f"{self._noun()} is not a PNG, JPEG, GIF or WebP image. "
                "Convert it, or pass media_type= if the provider takes this kind."
            )
        return found


class File(Media, frozen=True, kw_only=True, dict=True, omit_defaults=True, tag="file", tag_field="type"):
    """A document: PDF or text.

    Attributes:
        filename: sent to the provider and part of the key when given. A path does not set it, so that the same content
            by path or by bytes is the same prompt.
    """

    filename: str | None = None

    def __canonical__(self) -> object:
        identity: list[object] = ["file", *self._identity()]
        if self.filename is not None:
            identity.append({"filename": self.filename})
        return identity

    def __repr__(self) -> str:
        return _short_repr(self)

    def _type_of(self, data: bytes) -> str:
        if sniff(data) is None:
            if _is_text(data):
                return "text/plain"
            # A name helps only where the content says nothing, so bytes and a path never get different types.
            guessed, _ = mimetypes.guess_type(self.filename or self.path or "")
            if guessed is not None:
                return guessed
        return Media._type_of(self, data)


def sniff(data: bytes) -> str | None:
    """The media type that the first bytes show, or None."""
    for magic, media_type in type_of_magic.items():
        if data.startswith(magic):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def _is_text(data: bytes) -> bool:
    try:
        return "\x00" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _read_data_url(url: str) -> tuple[str | None, bytes]:
    header, comma, payload = url.partition(",")
    media_type, *options = header.removeprefix("data:").split(";")
    try:
        if not comma:
            raise ValueError("it has no comma")
        data = base64.b64decode(payload, validate=True) if "base64" in options else unquote_to_bytes(payload)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"A data URL ({header[:60]}) does not decode: {error}.") from error
    return media_type or None, data


def _decode_known_base64(text: str) -> bytes | None:
    """Base64 text of a known kind of content; None when it is more likely a path."""
    if len(text) < 64 or not text.startswith(("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "JVBERi0")):
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if sniff(data) else None


def _short_repr(media: Media) -> str:
    where = media.url or media.path or f"{len(media.data or b'')} bytes"
    return f"{type(media).__name__}({where}, media_type={media.media_type!r})"
