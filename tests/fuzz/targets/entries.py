"""Stored entries, requests and blobs, as somebody writes them who can write to a shared store.

The first byte says what the rest is: an entry's bytes (0), MessagePack of a response under a checksum that is right
(1), MessagePack of a request, and of the blobs that it names (2). All is put into a store and used as caches are.
"""

import asyncio
import contextlib
import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from lm_deluge.cache import ResponseCache
from lm_deluge.cache.admin.archive import export, rekey
from lm_deluge.cache.admin.housekeeping import drift, restore, stats, verify
from lm_deluge.cache.codec import compress, decode, encode
from lm_deluge.cache.entry import Blob, Entry, Facts
from lm_deluge.cache.record import pack_request, unpack_request
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.errors import CacheError, CacheMissError, DamagedEntryError
from lm_deluge.prompt import Conversation

from .. import edits, samples
from ..using import use_conversation, use_response

MEGABYTES = 700
_CUT = b"\xff\x00\xff\x00"
_PROMPT = samples.PROMPTS[0]


def target(data: bytes, tmp: Path) -> list[str]:
    kind, rest = data[:1], data[1:]
    if kind == b"\x02":
        return list(_request(rest))
    cache = ResponseCache(MemoryStore())
    key = cache.key(_PROMPT)
    value = rest if kind == b"\x00" else _sealed(key, rest)
    request = pack_request(_PROMPT)
    entry = Entry(
        key=key, value=value, request=request.data, refers=request.refers, blobs=request.blobs, facts=Facts(created=1.0)
    )
    return list(_used(cache, entry))


def _sealed(key: bytes, plain: bytes) -> bytes:
    checked = struct.pack("<d8s", 1.0, bytes(8)) + compress(plain)
    return b"\x02" + hashlib.blake2b(checked, digest_size=8, key=key).digest() + checked


def _used(cache: ResponseCache, entry: Entry) -> Iterator[str]:
    """Everything that is done with a cache in which an entry is."""
    store: Any = cache.backend
    store.put_many([entry])
    with contextlib.suppress(DamagedEntryError):
        yield from use_response(decode(entry.key, entry.value).response)
    for report in (
        stats(store),
        verify(store),
        drift(store),
        rekey(store, dry_run=True),
        export(store, lambda line: None),
    ):
        yield f"{report} {report!r}"
    for asked in (_PROMPT, Conversation.user("another")):
        with contextlib.suppress(CacheMissError):
            explained = cache.explain(asked)
            yield f"{explained} {explained!r}"
    found = asyncio.run(cache.get_many([_PROMPT]))
    yield repr(found)
    verify(store, fix=True)
    for quarantined in list(store.quarantined()):
        yield f"{quarantined!r} {restore(store, quarantined.key)}"


def _request(rest: bytes) -> Iterator[str]:
    """The request, and blobs; where a part of it names a blob by its old name it gets the new one."""
    first, *blobs = rest.split(_CUT)
    named: dict[bytes, bytes] = {}
    for blob in blobs:  # each is named by what comes after it
        old, blob = blob[:32], blob[32:]
        for before, now in named.items():
            blob = blob.replace(before, now)
            first = first.replace(before, now)
        named[old] = hashlib.sha256(blob).digest()
        first = first.replace(old, named[old])
    by_name = {named[blob[:32]]: blob[32:] for blob in blobs}
    packed = compress(first)
    with contextlib.suppress(DamagedEntryError):
        stored = unpack_request(packed, lambda names: {name: by_name[name] for name in names if name in by_name})
        yield repr(stored)
        yield from use_conversation(stored.conversation)
    cache = ResponseCache(MemoryStore())
    key = samples.KEY
    with contextlib.suppress(DamagedEntryError, NameError):
        key = stored.key("default")
    answer = encode(key, samples.ANSWERS[0], created=1.0)
    all_blobs = {name: Blob(blob, ()) for name, blob in by_name.items()}
    entry = Entry(
        key=key, value=answer, request=packed, refers=tuple(all_blobs), blobs=all_blobs, facts=Facts(created=1.0)
    )
    with contextlib.suppress(CacheError):
        yield from _used(cache, entry)


def cases() -> st.SearchStrategy[bytes]:
    responses = [msgspec.msgpack.decode(msgspec.msgpack.encode(answer)) for answer in samples.ANSWERS]
    stored = [b"\x00" + entry.value for entry in samples.entries()]
    packed = msgspec.msgpack.encode
    requests = list(_requests())
    return st.one_of(
        edits.trees_like(responses, lambda tree: b"\x01" + packed(tree), edits.PACKED_ODD),
        edits.bytes_like(stored),
        edits.bytes_like([b"\x01" + packed(answer) for answer in samples.ANSWERS]),
        edits.trees_like(requests, _join, edits.PACKED_ODD),
        edits.edited(edits.trees_like(requests, _join, edits.PACKED_ODD)),
    )


def _requests() -> Iterator[list[Any]]:
    """Requests as lists of the plain request and pairs of each blob's name and plain content."""
    from lm_deluge.cache.codec import decompress

    for entry in samples.entries():
        blobs = sorted(entry.blobs.items(), key=lambda item: len(item[1].refers))
        yield [msgspec.msgpack.decode(decompress(entry.request)), *([name, _plain(blob.data)] for name, blob in blobs)]


def _plain(data: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(data)
    except msgspec.DecodeError:
        return data


def _join(tree: Any) -> bytes:
    first, *blobs = tree
    parts = [msgspec.msgpack.encode(first)]
    for name, blob in blobs:
        digest = name if isinstance(name, bytes) else b""  # an edit may have put a number there
        parts.append(digest.ljust(32)[:32] + (blob if isinstance(blob, bytes) else msgspec.msgpack.encode(blob)))
    return b"\x02" + _CUT.join(parts)
