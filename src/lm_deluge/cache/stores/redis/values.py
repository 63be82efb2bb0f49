"""What is in a Redis server under its names, as bytes: facts, blobs, accounts of runs, what is quarantined."""

from typing import TypeVar

import msgspec

from lm_deluge.cache.codec import compress, decompress
from lm_deluge.cache.entry import Blob, Entry, Facts, Quarantined, Stored
from lm_deluge.cache.runs import Run
from lm_deluge.errors import DamagedEntryError

__all__ = [
    "ABOUT",
    "PARTS",
    "QUARANTINED",
    "RUN",
    "About",
    "decode",
    "encode",
    "milliseconds",
    "pack_blob",
    "parts",
    "unpack_blob",
    "until",
]

PARTS = (b"value", b"request", b"facts")
"""The kinds of names that an entry has."""

T = TypeVar("T")
_LAST_MS = 2**62


class About(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True, gc=False):
    """What is kept beside value and request."""

    namespace: str = "default"
    facts: Facts = Facts()
    refers: tuple[bytes, ...] = ()
    expires: float | None = None

    def stored(self, key: bytes, value: bytes, request: bytes | None) -> Stored:
        """The whole entry."""
        namespace, expires = self.namespace, self.expires
        return Stored(
            key=key, namespace=namespace, value=value, request=request or b"", facts=self.facts, expires=expires
        )


class _Packed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A blob."""

    data: bytes
    refers: tuple[bytes, ...] = ()


encode = msgspec.msgpack.Encoder().encode
ABOUT = msgspec.msgpack.Decoder(About)
_packed_decoder = msgspec.msgpack.Decoder(_Packed)
QUARANTINED = msgspec.msgpack.Decoder(Quarantined)
RUN = msgspec.msgpack.Decoder(Run)


def parts(entry: Entry) -> tuple[bytes, bytes, bytes]:
    """What is kept of an entry under its names, in the order of ``PARTS``."""
    return entry.value, entry.request, encode(About(entry.namespace, entry.facts, entry.refers, entry.expires))


def pack_blob(blob: Blob) -> bytes:
    """A blob as the server keeps it, compressed."""
    return encode(_Packed(compress(blob.data), blob.refers))


def unpack_blob(packed: bytes | None) -> Blob | None:
    """The blob; None if it does not unpack."""
    found = decode(_packed_decoder, packed)
    try:
        return None if found is None else Blob(decompress(found.data), found.refers)
    except DamagedEntryError:
        return None


def decode(decoder: "msgspec.msgpack.Decoder[T]", packed: bytes | None) -> T | None:
    """What was encoded; None if it does not decode, which ``verify`` reports."""
    try:
        return None if packed is None else decoder.decode(packed)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def until(expires: float | None) -> tuple[object, ...]:
    """The options of SET for an entry that expires at a time, in seconds since the Unix epoch."""
    return () if expires is None else ("PXAT", milliseconds(expires))


def milliseconds(expires: float) -> int:
    """A time as Redis takes it."""
    return round(min(max(expires * 1000, 1), _LAST_MS))
