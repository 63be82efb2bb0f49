"""What is stored for one answer: the entry, the request that led to it, and plain facts for people who open the file.

The request is kept so that a miss can be explained, keys can be made anew and files can be moved. Long messages and
media are stored once under their own digest and referred to, so 10,000 requests with one 80 kB prefix hold it once.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from lm_deluge.cache.codec import compress, decompress
from lm_deluge.errors import DamagedEntryError
from lm_deluge.prompt import Conversation, File, Image, Message, ToolResult
from lm_deluge.response import APIResponse

__all__ = ["Entry", "StoredRequest", "pack_request", "unpack_request"]

_INLINE_BYTES = 1024
_BLOB_URL = "blob:sha256:"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One answer as a store gets it.

    Attributes:
        key: 32 bytes.
        value: the encoded response; all that a lookup needs.
        namespace: the ``cache_key`` of the cache, for people and for housekeeping.
        request: the packed request.
        blobs: long messages and media of the request by their SHA-256, not compressed: a store that has one already
            need not do that work again.
        response: the response itself, for stores that have plain columns.
    """

    key: bytes
    value: bytes
    namespace: str
    request: bytes = b""
    blobs: Mapping[bytes, bytes] = {}
    response: APIResponse


class StoredRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stored form of a request: each message as it is, or the 32-byte digest of its blob."""

    messages: list[Message | bytes]


_encoder = msgspec.msgpack.Encoder()
_message_decoder = msgspec.msgpack.Decoder(Message)
_request_decoder = msgspec.msgpack.Decoder(StoredRequest)


def pack_request(conversation: Conversation) -> tuple[bytes, dict[bytes, bytes]]:
    """The stored form of a loaded conversation, and the blobs that it refers to."""
    blobs: dict[bytes, bytes] = {}
    messages = [_pack_message(message, blobs) for message in conversation.messages]
    return compress(_encoder.encode({"messages": messages})), blobs


def unpack_request(request: bytes, blobs: Mapping[bytes, bytes]) -> Conversation:
    """The conversation of a stored request.

    Args:
        request: as ``pack_request`` gave it.
        blobs: at least those that it refers to, not compressed.

    Raises:
        KeyError: a blob is missing.
        DamagedEntryError: something does not unpack, or a blob is not what its digest says.
        msgspec.MsgspecError: something has another shape.
    """
    stored = _request_decoder.decode(decompress(request))
    return Conversation([_unpack_message(message, blobs) for message in stored.messages])


def _pack_message(message: Message, blobs: dict[bytes, bytes]) -> msgspec.Raw | bytes:
    before = len(blobs)
    if any(item.data for item in message.media):
        message = Message(message.role, [_move_media_out(part, blobs) for part in message.parts])
    encoded = _encoder.encode(message)
    if len(encoded) <= _INLINE_BYTES and len(blobs) == before:
        return msgspec.Raw(encoded)
    digest = hashlib.sha256(encoded).digest()
    blobs[digest] = encoded
    return digest


def _unpack_message(message: Message | bytes, blobs: Mapping[bytes, bytes]) -> Message:
    if isinstance(message, bytes):
        message = _message_decoder.decode(_blob(message, blobs))
    if any((item.url or "").startswith(_BLOB_URL) for item in message.media):
        return Message(message.role, [_move_media_in(part, blobs) for part in message.parts])
    return message


def _move_media_out(part: Any, blobs: dict[bytes, bytes]) -> Any:
    if isinstance(part, (Image, File)) and part.data:
        blobs[bytes.fromhex(part.digest)] = part.data
        return msgspec.structs.replace(part, data=None, url=_BLOB_URL + part.digest)
    return _in_results(part, lambda item: _move_media_out(item, blobs))


def _move_media_in(part: Any, blobs: Mapping[bytes, bytes]) -> Any:
    if isinstance(part, (Image, File)) and (part.url or "").startswith(_BLOB_URL):
        digest = bytes.fromhex((part.url or "").removeprefix(_BLOB_URL))
        return msgspec.structs.replace(part, data=_blob(digest, blobs), url=None)
    return _in_results(part, lambda item: _move_media_in(item, blobs))


def _in_results(part: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(part, ToolResult) and not isinstance(part.result, str):
        return ToolResult(part.tool_call_id, tuple(change(item) for item in part.result), part.is_error)
    return part


def _blob(digest: bytes, blobs: Mapping[bytes, bytes]) -> bytes:
    plain = blobs[digest]
    if hashlib.sha256(plain).digest() != digest:
        raise DamagedEntryError(f"blob {digest.hex()[:16]}… does not hold what its digest says")
    return plain
