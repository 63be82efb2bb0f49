"""The only module that turns values into key bytes.

A key must be the same in every process, on every machine and in every later version, and two different prompts must
never share one. So the encoding is JSON with sorted object keys (strings are quoted, numbers keep their type: ``1``,
``1.0``, ``true`` and ``"1"`` all differ), and digests are chained SHA-256 with a versioned start:

    root          = SHA-256("lm_deluge conversation 1")
    digest        = SHA-256(parent digest, 32 bytes || canonical JSON of the message)
    sample        = SHA-256("lm_deluge sample 1" || index || digest)              from the second sample on
    conversation  = SHA-256("lm_deluge key 1" || namespace || sample or digest)   32 bytes: any answer to it
    entry         = conversation || first 16 bytes of the parameters' digest      48 bytes: one answer

So all answers to a conversation are neighbours in an ordered store: their keys begin alike. Where the parameters are
not known, zeros stand for them.

A message extends its parent's digest, so a prefix that a million prompts share is hashed once. Values say what
identifies them in ``__canonical__``; a field that still has its default is left out there, which is why adding a field
does not move existing keys. Golden tests pin the result.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from lm_deluge.errors import PromptError

__all__ = [
    "KEY_SIZES",
    "ROOT",
    "SCHEME",
    "Canonical",
    "content_digest",
    "conversation_key",
    "conversation_of",
    "encode",
    "entry_key",
    "extend",
    "parameters_digest",
    "parameters_of",
    "plain",
    "request_key",
    "sampled",
]

SCHEME = 1
"""Version of the key scheme. It is part of every key."""

ROOT = hashlib.sha256(f"lm_deluge conversation {SCHEME}".encode()).digest()
"""Digest of the empty conversation."""

_CONVERSATION_BYTES = 32
_UNKNOWN = bytes(16)  # in the place of parameters that are not known

KEY_SIZES = (_CONVERSATION_BYTES, _CONVERSATION_BYTES + len(_UNKNOWN))
"""How many bytes the key of an entry may have: 32 in files of older versions, and in stores that only get and put."""

_encoder = msgspec.json.Encoder(order="deterministic")

_LEAST, _MOST = -(2**63), 2**64 - 1  # integers that every MessagePack reader and most JSON readers take
_DEPTH = 100  # far from Python's recursion limit, wherever the caller stands


class Canonical(Protocol):
    """A value that says which plain data identify it."""

    def __canonical__(self) -> object:
        """Lists, dicts with string keys, strings, numbers, booleans and None."""
        ...


def encode(value: object) -> bytes:
    """Canonical JSON of plain data, such as ``plain`` returns.

    Raises:
        PromptError: the data have no faithful JSON form: a lone surrogate or an unknown type.
    """
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError as error:
        raise PromptError(
            f"The prompt holds text that is not valid Unicode ({error.reason} at character {error.start}). "
            "Replace the lone surrogate, for example with text.encode('utf-8', 'replace').decode()."
        ) from error
    except TypeError as error:
        raise PromptError(f"The prompt holds something that has no JSON form: {error}.") from error


def extend(parent: bytes, message: Canonical) -> bytes:
    """Digest of a conversation that goes on with ``message`` after the one whose digest is ``parent``."""
    return hashlib.sha256(parent + encode(message.__canonical__())).digest()


def content_digest(data: bytes) -> str:
    """SHA-256 of the full content of an image or a file, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def parameters_digest(parameters: object) -> bytes:
    """SHA-256 of what is asked beside the conversation, as plain data."""
    return hashlib.sha256(b"lm_deluge parameters 1\n" + encode(parameters)).digest()


def sampled(digest: bytes, sample: int) -> bytes:
    """Digest of one of several independent answers. The first is the one that is there without samples."""
    if not sample:
        return digest
    return hashlib.sha256(b"lm_deluge sample 1\n" + str(sample).encode() + b"\n" + digest).digest()


def conversation_key(namespace: str, digest: bytes, sample: int = 0) -> bytes:
    """What the keys of all answers to a conversation begin with: 32 bytes, different for every three arguments."""
    if sample:
        digest = sampled(digest, sample)
    return hashlib.sha256(b"lm_deluge key 1\n" + namespace.encode() + b"\n" + digest).digest()


def entry_key(conversation: bytes, parameters: bytes | None) -> bytes:
    """The key of one answer: 48 bytes.

    Args:
        conversation: as ``conversation_key`` gives it.
        parameters: digest of what was asked beside the conversation, or its first 16 bytes; None if that is not known.
    """
    return conversation + (_UNKNOWN if parameters is None else parameters[: len(_UNKNOWN)])


def conversation_of(key: bytes) -> bytes:
    """The key of the conversation that an entry's key begins with."""
    return key[:_CONVERSATION_BYTES]


def parameters_of(key: bytes) -> bytes | None:
    """The first 16 bytes of the parameters' digest in an entry's key; None in a key that has none."""
    found = key[_CONVERSATION_BYTES:]
    return found if found and found != _UNKNOWN else None


def request_key(namespace: str, digest: bytes, parameters: bytes, sample: int = 0) -> bytes:
    """A key of 32 bytes that is made from the parameters too.

    Stores that can only get and put keep the answers of ``scope="request"`` under it, and all stores did so before keys
    had 48 bytes.
    """
    return conversation_key(namespace, hashlib.sha256(b"lm_deluge request 1\n" + parameters + digest).digest(), sample)


def plain(value: object) -> Any:
    """A copy of JSON-like data in plain dicts and lists with string keys.

    Raises:
        PromptError: something in it has no faithful JSON form: NaN, infinity, an integer of more than 64 bits, bytes,
            keys that are equal as strings, an unknown type, or nesting deeper than 100 levels.
    """
    return _plain(value, _DEPTH)


def _plain(value: object, depth: int) -> Any:
    # Subclasses (numpy's strings and floats, enumerations) become the plain type, so that equal values encode equally.
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        if not _LEAST <= value <= _MOST:
            raise PromptError("An integer of more than 64 bits has no JSON form that everyone reads. Use a string.")
        return int.__int__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise PromptError(f"{value!r} has no JSON form. Use null or a string.")
        return float.__float__(value)
    if not depth:
        raise PromptError(f"Data are nested more than {_DEPTH} levels deep, or contain themselves. Flatten them.")
    if isinstance(value, Mapping):
        copied = {_object_key(key): _plain(item, depth - 1) for key, item in value.items()}
        if len(copied) != len(value):
            raise PromptError("Two keys of an object are the same as JSON, such as 1 and '1'. Use different strings.")
        return copied
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return [_plain(item, depth - 1) for item in value]
    raise PromptError(f"{type(value).__name__} has no JSON form. Convert it to text or numbers first.")


def _object_key(key: object) -> str:
    """A key as JSON text, in the way of the standard library's ``json``."""
    match key:
        case str():
            return str.__str__(key)
        case None:
            return "null"
        case bool():
            return "true" if key else "false"
        case int() | float():
            return str(plain(key))
    raise PromptError(f"{key!r} cannot be the key of a JSON object. Use a string.")
