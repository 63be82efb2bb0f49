"""The only module that turns values into key bytes.

A key must be the same in every process, on every machine and in every later version, and two different prompts must
never share one. So the encoding is JSON with sorted object keys (strings are quoted, numbers keep their type: ``1``,
``1.0``, ``true`` and ``"1"`` all differ), and digests are chained SHA-256 with a versioned start:

    root    = SHA-256(b"lm_deluge conversation 1")
    digest  = SHA-256(parent digest, 32 bytes || canonical JSON of the message)

A message extends its parent's digest, so a prefix that a million prompts share is hashed once. Values say what
identifies them in ``__canonical__``; a field that still has its default is left out there, which is why adding a field
does not move existing keys. Golden tests pin the result.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from lm_deluge.errors import PromptError

__all__ = ["ROOT", "SCHEME", "Canonical", "content_digest", "encode", "extend", "namespaced"]

SCHEME = 1
"""Version of the key scheme. It is part of every key."""

ROOT = hashlib.sha256(b"lm_deluge conversation 1").digest()
"""Digest of the empty conversation."""

_encoder = msgspec.json.Encoder(order="deterministic")


class Canonical(Protocol):
    """A value that says which plain data identify it."""

    def __canonical__(self) -> object:
        """Lists, dicts with string keys, strings, numbers, booleans and None."""
        ...


def encode(value: object) -> bytes:
    """Canonical JSON of plain data.

    Raises:
        PromptError: the data has no faithful JSON form: a lone surrogate, NaN, infinity, or an unknown type.
    """
    try:
        encoded = _encoder.encode(value)
    except UnicodeEncodeError as error:
        raise PromptError(
            f"The prompt holds text that is not valid Unicode ({error.reason} at character {error.start}). "
            "Replace the lone surrogate, for example with text.encode('utf-8', 'replace').decode()."
        ) from error
    except TypeError:
        # Object keys other than strings are the one thing that JSON itself would have turned into strings.
        encoded = _encoder.encode(plain(value))
    return encoded


def extend(parent: bytes, message: Canonical) -> bytes:
    """Digest of a conversation that goes on with ``message`` after the one whose digest is ``parent``."""
    return hashlib.sha256(parent + encode(message.__canonical__())).digest()


def content_digest(data: bytes) -> str:
    """SHA-256 of the full content of an image or a file, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def namespaced(namespace: str, digest: bytes) -> bytes:
    """The stored key of a digest within a namespace: 32 bytes, different for every pair of arguments."""
    return hashlib.sha256(b"lm_deluge key 1\n" + namespace.encode() + b"\n" + digest).digest()


def plain(value: object) -> Any:
    """A copy of JSON-like data in plain dicts and lists with string keys.

    Raises:
        PromptError: something in it has no faithful JSON form.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise PromptError(f"{value!r} has no JSON form. Use null or a string.")
        return value
    if isinstance(value, Mapping):
        return {_object_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain(item) for item in value]
    raise PromptError(f"{type(value).__name__} has no JSON form. Convert it to text or numbers first.")


def _object_key(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool) or key is None:
        return {True: "true", False: "false", None: "null"}[key]
    if isinstance(key, (int, float)):
        return str(key)
    raise PromptError(f"{key!r} cannot be the key of a JSON object. Use a string.")
