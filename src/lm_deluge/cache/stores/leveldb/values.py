"""What is in a LevelDB under its keys, as bytes: facts, accounts of runs, what was quarantined."""

import hashlib
from typing import Any

import msgspec

from lm_deluge.cache.codec import decompress
from lm_deluge.cache.entry import Facts, Quarantined
from lm_deluge.cache.runs import Run
from lm_deluge.errors import DamagedEntryError

__all__ = [
    "DECODERS",
    "ENTRY",
    "FACTS",
    "QUARANTINED",
    "REQUEST",
    "RUN",
    "About",
    "about_of",
    "decode",
    "encode",
    "end_of",
    "is_blob",
]

ENTRY = b"e"
REQUEST = b"r"
FACTS = b"i"
QUARANTINED = b"a"
RUN = b"j"


class About(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True, gc=False):
    """What is kept beside the value."""

    namespace: str = "default"
    facts: Facts = Facts()
    expires: float | None = None


encode = msgspec.msgpack.Encoder().encode
DECODERS: dict[bytes, tuple[Any, str]] = {
    FACTS: (msgspec.msgpack.Decoder(About), "the facts"),
    QUARANTINED: (msgspec.msgpack.Decoder(Quarantined), "the remains"),
    RUN: (msgspec.msgpack.Decoder(Run), "the accounts"),
}


def about_of(packed: bytes | None) -> About:
    """Namespace, facts and expiry. If they do not decode, defaults, because no lookup depends on them."""
    return decode(FACTS, packed) or About()


def decode(kind: bytes, packed: bytes | None) -> Any:
    """What was encoded; None if it does not decode, which ``verify`` reports."""
    try:
        return None if packed is None else DECODERS[kind][0].decode(packed)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def is_blob(name: bytes, packed: bytes) -> bool:
    try:
        return hashlib.sha256(decompress(packed)).digest() == name
    except DamagedEntryError:
        return False


def end_of(prefix: bytes) -> bytes | None:
    """The first key behind all that start with one byte; None for no prefix."""
    return bytes([prefix[0] + 1]) if prefix else None
