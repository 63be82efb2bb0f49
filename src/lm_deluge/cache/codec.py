"""Stored bytes from responses, and back. Decoding never executes code, and never believes a damaged entry.

An entry is::

    1 byte    format version, 2
    8 bytes   BLAKE2b of everything that follows, keyed with the entry's key: damage, and an entry under another's key,
              show here
    8 bytes   when it was stored, in seconds since the Unix epoch: a double, little-endian
    8 bytes   fingerprint of the parameters with which it was asked; zeros where they are not known
    the rest  raw deflate with the preset dictionary, over MessagePack of the response

MessagePack because the provider's answer is kept as bytes; deflate with a dictionary because it is in the standard
library, reads in 3 us and makes such entries smallest (docs/decisions/006-entry-codec.md has the comparison).
"""

import hashlib
import struct
import zlib

import msgspec

from lm_deluge.cache._dictionary import DICTIONARY_1
from lm_deluge.errors import DamagedEntryError
from lm_deluge.response import APIResponse

__all__ = ["UNKNOWN", "Decoded", "compress", "decode", "decompress", "encode", "fingerprint_of", "try_decode"]

UNKNOWN = bytes(8)
"""The fingerprint of parameters that are not known."""

_VERSION = b"\x02"
_CHECK_BYTES = 8
_CHECKED = len(_VERSION) + _CHECK_BYTES
_FACTS = struct.Struct("<d8s")
_MAX_PLAIN_BYTES = 256 * 1024 * 1024  # a hostile entry must not unpack without end
_SMALL_WINDOW = 8 * 1024

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(APIResponse)


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """A stored entry, decoded.

    Attributes:
        response: as it was stored.
        created: when, in seconds since the Unix epoch; 0 where that is not known.
        fingerprint: of the parameters with which it was asked; ``UNKNOWN`` where they are not known.
    """

    response: APIResponse
    created: float = 0.0
    fingerprint: bytes = UNKNOWN


def encode(key: bytes, response: APIResponse, *, created: float = 0.0, fingerprint: bytes = UNKNOWN) -> bytes:
    """The stored form of a response under a key."""
    checked = _FACTS.pack(created, fingerprint) + compress(_encoder.encode(response))
    return _VERSION + _check(key, checked) + checked


def decode(key: bytes, entry: bytes) -> Decoded:
    """What is in a stored entry.

    Raises:
        DamagedEntryError: the entry is not what was stored under this key.
    """
    version = entry[:1]
    if version != _VERSION:
        raise DamagedEntryError(f"the entry has format {version.hex() or 'none'}; {_VERSION.hex()} is known")
    checked = entry[_CHECKED:]
    if entry[1:_CHECKED] != _check(key, checked):
        raise DamagedEntryError("the entry's checksum does not match")
    try:
        created, fingerprint = _FACTS.unpack_from(checked)
        return Decoded(_response(checked[_FACTS.size :]), created, fingerprint)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError, struct.error) as error:
        raise DamagedEntryError(f"the entry does not decode: {error}") from error


def try_decode(key: bytes, value: object) -> Decoded | str | None:
    """What is in what a store gave, or what is wrong with it; None if it gave nothing."""
    if value is None:
        return None
    if not isinstance(value, bytes):
        return f"the store gave a {type(value).__name__} where bytes were put"
    if not value:
        return "the store cannot read it"
    try:
        return decode(key, value)
    except DamagedEntryError as error:
        return str(error)


def fingerprint_of(entry: object) -> bytes:
    """The fingerprint that a stored entry says it has, which is not checked here; ``UNKNOWN`` where it says none."""
    if not isinstance(entry, bytes) or len(entry) < _CHECKED + _FACTS.size:
        return UNKNOWN
    return entry[_CHECKED + _FACTS.size - len(UNKNOWN) : _CHECKED + _FACTS.size]


def _response(packed: bytes) -> APIResponse:
    response = _decoder.decode(decompress(packed))
    if response.content is not None and not response.content.is_loaded:
        # This package stores no such answer. A conversation that goes on with one must not send a local file.
        raise DamagedEntryError("the entry names a local file instead of holding its content")
    return response


def compress(plain: bytes) -> bytes:
    """Raw deflate with the preset dictionary."""
    # A window and tables no larger than the data need: allocating them is most of the work for a short answer.
    small = len(plain) <= _SMALL_WINDOW
    deflate = zlib.compressobj(
        level=6 if len(plain) < 64 * 1024 else 3,
        method=zlib.DEFLATED,
        wbits=-13 if small else -15,
        memLevel=5 if small else 8,
        strategy=zlib.Z_DEFAULT_STRATEGY,
        zdict=DICTIONARY_1,
    )
    return deflate.compress(plain) + deflate.flush()


def decompress(packed: bytes) -> bytes:
    """What ``compress`` was given.

    Raises:
        DamagedEntryError: it does not unpack, is cut short, or unpacks to more than any answer has.
    """
    inflate = zlib.decompressobj(wbits=-15, zdict=DICTIONARY_1)
    try:
        plain = inflate.decompress(packed, _MAX_PLAIN_BYTES)
    except zlib.error as error:
        raise DamagedEntryError("it does not unpack") from error
    if not inflate.eof:
        raise DamagedEntryError("it is cut short, or unpacks to more than any answer has")
    return plain


def _check(key: bytes, packed: bytes) -> bytes:
    return hashlib.blake2b(packed, digest_size=_CHECK_BYTES, key=key[:64]).digest()
