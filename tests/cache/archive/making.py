"""Entries for stores, and what a store holds in a form that can be compared."""

import io
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lm_deluge.cache.admin.archive import export, load
from lm_deluge.cache.codec import UNKNOWN, Decoded, decode, encode
from lm_deluge.cache.entry import Entry, Facts
from lm_deluge.cache.record import PackedParameters, StoredRequest, pack_request, unpack_request
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.prompt import Conversation
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse

REFERENCE = Path(__file__).parent.parent / "golden" / "reference_0_0_138.db"
NOW = 1_800_000_000.0
PARAMETERS = Parameters(model="gpt-4.1-mini", endpoint="https://api.example.com/v1", params={"temperature": 0.5})


def entry(
    prompt: Conversation,
    response: APIResponse,
    *,
    parameters: Parameters | None = PARAMETERS,
    scope: Any = "conversation",
    sample: int = 0,
    namespace: str = "default",
    created: float = NOW,
    expires: float | None = None,
    run: int = 0,
) -> Entry:
    """An entry such as a cache stores."""
    request = StoredRequest(conversation=prompt.load(), parameters=parameters, scope=scope, sample=sample)
    packed = pack_request(
        request.conversation,
        None if parameters is None else PackedParameters.of(parameters),
        scope=scope,
        sample=sample,
    )
    key = request.key(namespace)
    kept = msgspec.structs.replace(response, id=0, local_cache_hit=False)
    fingerprint = UNKNOWN if parameters is None else parameters.fingerprint
    return Entry(
        key=key,
        value=encode(key, kept, created=created, fingerprint=fingerprint),
        namespace=namespace,
        request=packed.data,
        refers=packed.refers,
        blobs=packed.blobs,
        facts=Facts(created=created, asked=kept.model_internal, model=kept.model, cost=kept.cost, run=run),
        expires=expires,
    )


def filled(*entries: Entry) -> MemoryStore:
    store = MemoryStore()
    store.put_many(entries)
    return store


def contents(store: Any) -> dict[bytes, tuple[str, Decoded, StoredRequest | None, Facts, float | None]]:
    """Everything that an entry is, decoded."""
    return {
        stored.key: (
            stored.namespace,
            decode(stored.key, stored.value),
            unpack_request(stored.request, store.read_blobs) if stored.request else None,
            stored.facts,
            stored.expires,
        )
        for stored in store.scan()
    }


def bundle(store: Any, **options: Any) -> list[bytes]:
    """The lines of a store's bundle."""
    lines: list[bytes] = []
    export(store, lines.append, now=NOW, **options)
    return lines


def loaded(lines: list[bytes], store: Any = None, **options: Any) -> tuple[Any, Any]:
    """A store with the entries of a bundle, and the report."""
    store = MemoryStore() if store is None else store
    return store, load(store, io.BytesIO(b"".join(lines)), **options)


def resealed(line: bytes, change: Any) -> bytes:
    """A line with another content and the checksum of that: what a forger would write."""
    import hashlib

    content = msgspec.json.decode(line)
    del content["sha256"]
    plain = msgspec.json.encode(change(content) or content)
    return b'{"sha256":"' + hashlib.sha256(plain).hexdigest().encode() + b'",' + plain[1:] + b"\n"


def leveldb_reference(path: Path) -> None:
    """The same cache of PyPI ``lm-deluge`` as ``REFERENCE``, in a LevelDB directory."""
    plyvel = pytest.importorskip("plyvel")
    with (
        closing(plyvel.DB(str(path), create_if_missing=True)) as database,
        closing(sqlite3.connect(REFERENCE)) as connection,
    ):
        for key, value in connection.execute("SELECT key, value FROM cache"):
            database.put(key.encode(), bytes(value))
