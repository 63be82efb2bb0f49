"""One answer as stores see it: bytes, and plain facts for people who open the file.

Nothing here knows what is in the bytes. ``codec`` makes the value, ``record`` the request.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from lm_deluge.errors import DamagedEntryError

__all__ = [
    "Blob",
    "Entry",
    "Facts",
    "Quarantined",
    "ReadBlobs",
    "Stored",
    "blob_of",
    "blobs_in",
    "has_id",
    "short_hex",
    "short_id",
]

_CONVERSATION_DIGITS = 64  # of a key in hexadecimal; those of the parameters follow


def short_id(key: bytes, digits: int = 8) -> str:
    """What people call an entry: the first digits of its conversation, and of its parameters if the key has them.

    Answers to one conversation have keys that begin alike, so the first digits alone would not tell them apart.
    """
    return short_hex(key.hex(), digits)


def short_hex(key: str, digits: int = 8) -> str:
    """``short_id`` of a key in hexadecimal."""
    parameters = key[_CONVERSATION_DIGITS:]
    return f"{key[:digits]}-{parameters[:4]}" if parameters else key[:digits]


def has_id(key: bytes, id: str) -> bool:
    """Whether a key begins with these digits, or has a short id that begins so. Any number of digits will do."""
    conversation, _, parameters = id.partition("-")
    digits = key.hex()
    return digits.startswith(conversation) and digits[_CONVERSATION_DIGITS:].startswith(parameters)


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What an entry is about, for people, filters and housekeeping. No lookup depends on it.

    Attributes:
        created: when the answer was stored, in seconds since the Unix epoch.
        asked: the model as the user named it.
        model: the model that answered, as the provider names it.
        finish_reason: why the answer ended.
        input_tokens: prompt tokens that were neither read from nor written to the provider's cache.
        output_tokens: generated tokens.
        cache_read_tokens: prompt tokens read from the provider's cache.
        cache_write_tokens: prompt tokens written to it.
        cost: US dollars paid for the answer; None when the price was not known.
        run: the run that bought it (see ``runs.Run``); 0 for none.
    """

    created: float = 0.0
    asked: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost: float | None = None
    run: int = 0


class Blob(msgspec.Struct, frozen=True, gc=False):
    """A part of requests that is stored once, for all requests that share it.

    Attributes:
        data: its bytes, not compressed; their SHA-256 is its name.
        refers: names of the blobs that it refers to itself.
    """

    data: bytes
    refers: tuple[bytes, ...] = ()


ReadBlobs = Callable[[Sequence[bytes]], Mapping[bytes, bytes]]
"""Gives blobs by their names, not compressed; those that are missing are left out."""


def blobs_in(blobs: Mapping[bytes, Blob]) -> ReadBlobs:
    """Reads blobs that are at hand."""
    return lambda names: {name: blobs[name].data for name in names if name in blobs}


def blob_of(found: Mapping[bytes, bytes], name: bytes) -> bytes:
    """One of the blobs that were read for a stored request.

    Raises:
        DamagedEntryError: it is missing.
    """
    data = found.get(name)
    if data is None:
        raise DamagedEntryError(f"blob {name.hex()[:16]}… of the stored request is missing")
    return data


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One answer as a store gets it.

    Attributes:
        key: 48 bytes, or 32; see ``lm_deluge.canonical``.
        value: the encoded response; all that a lookup needs.
        namespace: the ``cache_key`` of the cache, for people and for housekeeping.
        request: the packed request.
        refers: names of the blobs that the request refers to directly.
        blobs: those blobs and the ones they refer to, by their SHA-256. A store that has one already need not store it
            again.
        facts: for stores that can show them.
        expires: when the entry is of no more use, in seconds since the Unix epoch; None for never. Lookups see to it
            themselves, so this only lets a store clean up.
    """

    key: bytes
    value: bytes
    namespace: str = "default"
    request: bytes = b""
    refers: tuple[bytes, ...] = ()
    blobs: Mapping[bytes, Blob] = {}
    facts: Facts = Facts()
    expires: float | None = None

    def as_stored(self) -> "Stored":
        """The same as a store gives it back."""
        return Stored(
            key=self.key,
            namespace=self.namespace,
            value=self.value,
            request=self.request,
            facts=self.facts,
            expires=self.expires,
        )

    @property
    def size(self) -> int:
        """Bytes of value, request and blobs."""
        return len(self.value) + len(self.request) + sum(len(blob.data) for blob in self.blobs.values())


class Stored(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry as a store gives it back.

    Attributes:
        key: as in ``Entry``.
        namespace: the ``cache_key`` of the cache that stored it.
        value: the encoded response.
        request: the packed request; empty if none was stored.
        facts: what the store knows of it.
        expires: as in ``Entry``.
        used: when it was last served, in seconds since the Unix epoch, where the store keeps that; else None.
    """

    key: bytes
    namespace: str
    value: bytes
    request: bytes = b""
    facts: Facts = Facts()
    expires: float | None = None
    used: float | None = None

    @property
    def size(self) -> int:
        """Bytes of value and request, blobs not counted."""
        return len(self.value) + len(self.request)

    def as_entry(self, facts: Facts) -> Entry:
        """The same entry to be stored again, with other facts. Names of its blobs are left out."""
        return Entry(
            key=self.key,
            value=self.value,
            namespace=self.namespace,
            request=self.request,
            facts=facts,
            expires=self.expires,
        )


class Quarantined(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry that was taken out of service and kept: damaged, or rejected by the user.

    Attributes:
        key: of the entry.
        when: seconds since the Unix epoch.
        reason: why.
        value: what was found there.
        request: the packed request, where it was kept.
    """

    key: bytes
    when: float
    reason: str
    value: bytes = b""
    request: bytes = b""
