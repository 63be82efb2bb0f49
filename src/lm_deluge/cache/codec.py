"""Stored bytes from responses, and back. Decoding never executes code, and never believes a damaged entry.

An entry is::

    1 byte    format version, 1
    8 bytes   BLAKE2b of the key and everything that follows: damage, and an entry under another's key, show here
    the rest  raw deflate with the preset dictionary, over MessagePack of the response

MessagePack because the provider's answer is kept as bytes; deflate with a dictionary because it is in the standard
library, reads in 3 us and makes such entries smallest (docs/decisions/006-entry-codec.md has the comparison).
"""

import hashlib
import zlib

import msgspec

from lm_deluge.cache._dictionary import DICTIONARY_1
from lm_deluge.errors import DamagedEntryError
from lm_deluge.response import APIResponse

__all__ = ["compress", "decode", "decompress", "encode"]

_VERSION = b"\x01"
_CHECK_BYTES = 8
_HEADER_BYTES = len(_VERSION) + _CHECK_BYTES
_MAX_PLAIN_BYTES = 256 * 1024 * 1024  # a hostile entry must not unpack without end
_SMALL_WINDOW = 8 * 1024

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(APIResponse)


def encode(key: bytes, response: APIResponse) -> bytes:
    """The stored form of a response under a key."""
    packed = compress(_encoder.encode(response))
    return _VERSION + _check(key, packed) + packed


def decode(key: bytes, entry: bytes) -> APIResponse:
    """The response of a stored entry.

    Raises:
        DamagedEntryError: the entry is not what was stored under this key.
    """
    if entry[:1] != _VERSION:
        raise DamagedEntryError(f"the entry has format {entry[:1].hex() or 'none'}; 01 is known")
    packed = entry[_HEADER_BYTES:]
    if entry[1:_HEADER_BYTES] != _check(key, packed):
        raise DamagedEntryError("the entry's checksum does not match")
    try:
        return _decoder.decode(decompress(packed))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise DamagedEntryError(f"the entry does not decode: {error}") from error


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
        raise DamagedEntryError(f"the entry does not unpack: {error}") from error
    if not inflate.eof:
        raise DamagedEntryError("the entry is cut short, or unpacks to more than any answer has")
    return plain


def _check(key: bytes, packed: bytes) -> bytes:
    return hashlib.blake2b(packed, digest_size=_CHECK_BYTES, key=key[:64]).digest()
