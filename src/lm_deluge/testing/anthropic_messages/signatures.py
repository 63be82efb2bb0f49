"""Signatures of thinking blocks: a block that was changed, or moved behind another prefix, is recognized."""

import hashlib

__all__ = ["is_bound_to", "is_genuine", "sign"]

_PERSON = b"lm_deluge"  # not a secret: there is no reason to forge an emulator's signature
_HALF = 32


def sign(thinking: str, prefix: bytes) -> str:
    """A signature over the thought and the digest of the conversation before it."""
    return _hash(thinking.encode()) + _hash(prefix)


def is_genuine(signature: str, thinking: str) -> bool:
    """Whether the emulator signed exactly this thought."""
    return len(signature) == 2 * _HALF and signature[:_HALF] == _hash(thinking.encode())


def is_bound_to(signature: str, prefix: bytes) -> bool:
    """Whether the thought was made behind this conversation."""
    return signature[_HALF:] == _hash(prefix)


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=_HALF // 2, person=_PERSON).hexdigest()
