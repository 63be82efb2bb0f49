"""Images and files: where their content is, what kind it is, and reading it.

A path is read when the prompt is keyed and sent, not when it is written down, so one missing file is one error
response and not the end of a list comprehension. A URL is passed on as a URL: the provider fetches it, and a local hit
needs no network. Reading blocks, so the engine does it in a worker thread.
"""

import base64
import binascii
import mimetypes
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, Self
from urllib.parse import unquote_to_bytes

import msgspec

from lm_deluge.canonical import content_digest
from lm_deluge.errors import MediaError

__all__ = ["File", "Image", "Media", "MediaInput"]

_TYPE_OF_MAGIC: Mapping[bytes, str] = MappingProxyType(
    {
        b"\x89PNG\r\n\x1a\n": "image/png",
        b"\xff\xd8\xff": "image/jpeg",
        b"GIF87a": "image/gif",
        b"GIF89a": "image/gif",
        b"%PDF-": "application/pdf",
    }
)
_KNOWN_TYPES = frozenset({*_TYPE_OF_MAGIC.values(), "image/webp"})

_MAX_BYTES = 500 * 1024 * 1024  # the largest file any provider takes (Anthropic Files API)
_SHOWN = 200  # characters of a path in a message


class BinaryFile(Protocol):
    """An open binary file, ``io.BytesIO``, a temporary file..."""

    def read(self) -> bytes: ...


MediaInput = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryFile


class Media(msgspec.Struct, frozen=True, kw_only=True, dict=True, omit_defaults=True):
    """What an image and a file have in common. Exactly one of ``data``, ``path`` and ``url`` is set.

    Attributes:
        data: the content, in memory.
        path: a local file, read when the prompt is used.
        url: an ``http`` or ``https`` address that the provider fetches.
        media_type: for example ``"image/png"``; found from the content when not given.

    Raises:
        MediaError: none or several of ``data``, ``path`` and ``url``, or a media type that contradicts the content.
    """

    data: bytes | None = None
    path: str | None = None
    url: str | None = None
    media_type: str | None = None

    def __post_init__(self) -> None:
        sources = (self.data, self.path, self.url)
        if sources.count(None) != len(sources) - 1:
            raise MediaError(f"{type(self).__name__} needs its data, its path or its url, and just one of them.")
        if self.data is not None and type(self.data) is not bytes:
            msgspec.structs.force_setattr(self, "data", bytes(self.data))
        if self.media_type is not None:
            msgspec.structs.force_setattr(self, "media_type", _usual_spelling(self.media_type))
        if self.data:
            self._settle_type(self.data)

    @classmethod
    def of(cls, source: MediaInput | Self, **fields: Any) -> Self:
        """From a path, bytes, a binary file object, a data URL, base64 text or an ``http(s)`` URL.

        Base64 text is taken for what it is when it holds a PNG, JPEG, GIF, WebP or PDF; other text is a path. Of a data
        URL the content says the media type, where it can be told, for many are written with the wrong one.

        Raises:
            MediaError: a data URL that does not decode.
            TypeError: another type, or a file that was opened as text.
        """
        if isinstance(source, cls):
            return msgspec.structs.replace(source, **fields) if fields else source
        if isinstance(source, (bytes, bytearray, memoryview)):
            return cls(data=bytes(source), **fields)
        if isinstance(source, os.PathLike):
            return cls(path=os.fspath(source), **fields)
        if isinstance(source, str):
            return cls._of_text(source, fields)
        read = getattr(source, "read", None)
        content = read() if callable(read) else None
        if not isinstance(content, bytes):
            raise TypeError(
                f"{cls.__name__} takes a path, bytes, a file opened with 'rb', a data URL, base64 text or a URL, "
                f"not {type(source).__name__}."
            )
        return cls(data=content, **fields)

    @classmethod
    def _of_text(cls, text: str, fields: dict[str, Any]) -> Self:
        if text[:5].lower() == "data:":
            declared, data = _read_data_url(text)
            return cls(data=data, **{"media_type": sniff(data) or declared, **fields})
        if text[:8].lower().startswith(("http://", "https://")):
            return cls(url=text, **fields)
        decoded = _decode_known_base64(text)
        return cls(path=text, **fields) if decoded is None else cls(data=decoded, **fields)

    @property
    def is_loaded(self) -> bool:
        """Whether the content needs no reading: it is in memory with a known type, or the provider fetches it."""
        return self.url is not None or (bool(self.data) and self.media_type is not None)

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
        loaded = msgspec.structs.replace(self, data=data, path=None)
        if loaded.media_type is None:
            # A name helps only where the content says nothing, so bytes and a path never get different types.
            loaded = msgspec.structs.replace(loaded, media_type=self._type_by_name())
        return loaded

    @property
    def digest(self) -> str:
        """SHA-256 of the content in hexadecimal; of the address for a URL, which is not fetched.

        Blocks while a file is read, each time: its content may have changed.
        """
        if self.path is not None:
            return self.load().digest
        known: str | None = self.__dict__.get("_digest")
        if known is None:
            content = self.data if self.data is not None else (self.url or "").encode("utf-8", "surrogatepass")
            known = self.__dict__["_digest"] = content_digest(content)
        return known

    def base64(self) -> str:
        """The content in base64, as providers take it. Blocks if the content is still a path."""
        return base64.b64encode(self.load().data or b"").decode("ascii")

    def data_url(self) -> str:
        """The content as a ``data:`` URL."""
        loaded = self.load()
        return f"data:{loaded.media_type};base64,{loaded.base64()}"

    def _identity(self, **more: str | None) -> list[object]:
        """What stands for it in a key: its kind, its content or address, and what else is given."""
        kind = self.__struct_config__.tag
        given = {name: value for name, value in more.items() if value is not None}
        if self.url is not None:
            return [kind, {"url": self.url}, *([given] if given else ())]
        loaded = self.load()
        return [kind, loaded.media_type, loaded.digest, *([given] if given else ())]

    def __repr__(self) -> str:
        # The query of a URL is often its signature.
        where = (self.url or "").partition("?")[0] or self.path or f"{len(self.data or b'')} bytes"
        return f"{type(self).__name__}({where}, media_type={self.media_type!r})"

    def _settle_type(self, data: bytes) -> None:
        if self.media_type is None:
            msgspec.structs.force_setattr(self, "media_type", self._type_by_content(data))
            return
        found = sniff(data)
        if found not in (None, self.media_type) and self.media_type in _KNOWN_TYPES:
            raise MediaError(f"{self._noun()} is {found}, not {self.media_type} as given. Leave media_type out.")

    def _type_by_content(self, data: bytes) -> str | None:
        return sniff(data)

    def _type_by_name(self) -> str:
        raise MediaError(
            f"The kind of {self._noun()} cannot be told from its content. Say what it is as its media_type."
        )

    def _noun(self) -> str:
        if self.path is None:
            return f"{type(self).__name__} of {len(self.data or b'')} bytes"
        shown = self.path if len(self.path) <= _SHOWN else f"{self.path[:_SHOWN]}..."  # long base64, taken for a path
        return f"{type(self).__name__} {shown!r}"

    def _read(self) -> bytes:
        path = Path(self.path or "")
        try:
            status = path.stat()
            is_fit = stat.S_ISREG(status.st_mode) and status.st_size <= _MAX_BYTES
            data = path.read_bytes() if is_fit else b""
        except FileNotFoundError as error:
            raise MediaError(f"{self._noun()} does not exist.") from error
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            raise MediaError(f"{self._noun()} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
        if is_fit:
            return data
        if stat.S_ISREG(status.st_mode):
            raise MediaError(f"{self._noun()} has {status.st_size:,} bytes; the most that is sent is {_MAX_BYTES:,}.")
        # A pipe or a device might never end, and could be read only once.
        raise MediaError(f"{self._noun()} is a directory or a device, not a file.")


class Image(Media, frozen=True, kw_only=True, dict=True, omit_defaults=True, tag="image", tag_field="type"):
    """An image: PNG, JPEG, GIF or WebP.

    Attributes:
        detail: how closely OpenAI models look: ``"low"``, ``"high"`` or ``"auto"``. Other providers have no such knob.

    Raises:
        MediaError: also a media type or a ``detail`` that images do not have.
    """

    detail: Literal["low", "high", "auto"] | None = None

    def __post_init__(self) -> None:
        Media.__post_init__(self)
        if self.media_type is not None and not self.media_type.startswith("image/"):
            raise MediaError(f"{self._noun()} cannot have the type {self.media_type}. Documents go into a File.")
        if self.detail not in (None, "low", "high", "auto"):
            raise MediaError(f"detail={self.detail!r} is not one of low, high, auto.")

    def __canonical__(self) -> object:
        return self._identity(detail=self.detail)

    def _type_by_content(self, data: bytes) -> str | None:
        found = sniff(data)
        return found if found is not None and found.startswith("image/") else None

    def _type_by_name(self) -> str:
        raise MediaError(
            f"{self._noun()} is not a PNG, JPEG, GIF or WebP image. "
            "Convert it, or say what it is as its media_type if the provider takes this kind."
        )


class File(Media, frozen=True, kw_only=True, dict=True, omit_defaults=True, tag="file", tag_field="type"):
    """A document: PDF or text.

    Attributes:
        filename: sent to the provider and part of the key when given. A path does not set it, so that the same content
            by path or by bytes is the same prompt.
    """

    filename: str | None = None

    def __canonical__(self) -> object:
        return self._identity(filename=self.filename)

    def _type_by_content(self, data: bytes) -> str | None:
        return sniff(data) or ("text/plain" if _is_text(data) else None)

    def _type_by_name(self) -> str:
        guessed, _ = mimetypes.guess_type(self.filename or self.path or "")
        return guessed or Media._type_by_name(self)


def sniff(data: bytes) -> str | None:
    """The media type that the first bytes show, or None."""
    for magic, media_type in _TYPE_OF_MAGIC.items():
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


def _usual_spelling(media_type: str) -> str:
    """``"image/jpg"`` is written often, and no provider takes it. A charset is no part of the type."""
    bare = media_type.partition(";")[0].strip().lower()
    return "image/jpeg" if bare == "image/jpg" else bare


def _read_data_url(url: str) -> tuple[str | None, bytes]:
    header, comma, payload = url[5:].partition(",")
    media_type, *options = header.split(";")
    try:
        if not comma:
            raise ValueError("it has no comma")
        data = unquote_to_bytes(payload)
        if "base64" in (option.strip().lower() for option in options):
            data = _decode_base64(data)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"A data URL ({header[:60]}) does not decode: {error}.") from error
    return media_type or None, data


def _decode_base64(text: str | bytes) -> bytes:
    """Base64, with the line breaks that mail and ``base64.encodebytes`` put in."""
    return base64.b64decode("".join(text.split()) if isinstance(text, str) else b"".join(text.split()), validate=True)


def _decode_known_base64(text: str) -> bytes | None:
    """Base64 text of a known kind of content; None when it is more likely a path."""
    if len(text) < 64 or not text.startswith(("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "JVBERi0")):
        return None
    try:
        data = _decode_base64(text)
    except (binascii.Error, ValueError):
        return None
    return data if sniff(data) else None
