"""Bundles of ``deluge cache export``. Lines get checksums that are right; what a line says of others is kept in step.

Data are lines of JSON without their checksums, or, after a byte 0, a file as it is.
"""

import contextlib
import gzip
import hashlib
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from lm_deluge.cache import MemoryCache
from lm_deluge.cache.admin.archive import export, is_bundle, load
from lm_deluge.cache.admin.housekeeping import stats, verify
from lm_deluge.cache.codec import decode
from lm_deluge.cache.record import unpack_request
from lm_deluge.errors import CacheError

from ...cache.archive.making import bundle, filled
from .. import edits, samples
from ..using import use_conversation, use_response

MEGABYTES = 700


def target(data: bytes, tmp: Path) -> list[str]:
    whole = data[1:] if data[:1] == b"\x00" else sealed(data.split(b"\n"))
    (path := tmp / "bundle.jsonl").write_bytes(whole)
    said = [str(is_bundle(path))]
    for dry_run in (True, False):
        store = MemoryCache().backend
        try:
            report = load(store, path, dry_run=dry_run)
        except CacheError as error:
            said.append(str(error))
            assert not list(store.scan()), "a refused bundle has left something behind"
            continue
        said.append(f"{report} {report!r}")
        assert not dry_run or not list(store.scan()), "a dry run has stored something"
    # What was taken in is sound: it decodes, can be used, and can be written out again.
    for stored in store.scan():
        said += use_response(decode(stored.key, stored.value).response)
        if stored.request:
            said += use_conversation(unpack_request(stored.request, store.read_blobs).conversation)
    again = export(store, tmp / "again.jsonl")
    assert again.damaged == 0, "what was imported is damaged"
    return [*said, str(stats(store)), str(verify(store)), repr(list(store.runs()))]


def sealed(lines: list[bytes]) -> bytes:
    """A bundle of these lines: each begins with its name as it was, whose place the new one takes in lines after it."""
    names: dict[bytes, bytes] = {}
    out: list[bytes] = []
    for line in lines:
        old, _, content = line.partition(b" ")
        for before, now in names.items():
            content = content.replace(before, now)
        if b'"type":"end"' in content:
            with contextlib.suppress(msgspec.DecodeError, RecursionError, TypeError, UnicodeError):
                end = msgspec.json.decode(content)
                end["all"] = hashlib.sha256(b"".join(out)).hexdigest()
                content = msgspec.json.encode(end)
        name = hashlib.sha256(content).hexdigest().encode()
        if len(old) == 64:
            names[old] = name
        out.append(b'{"sha256":"' + name + b'",' + content[1:] + b"\n")
    return b"".join(out)


def cases() -> st.SearchStrategy[bytes]:
    store = filled(*samples.entries())
    store.record_run(samples.RUN)
    lines = bundle(store)
    small = bundle(filled(*samples.entries()[:2]))
    trees = [[[line[11:75], msgspec.json.decode(b"{" + line[77:])] for line in some] for some in (lines, small)]
    files = [b"\x00" + b"".join(small), b"\x00" + gzip.compress(b"".join(lines))]

    def join(tree: Any) -> bytes:
        lines = ((name if isinstance(name, bytes) else b"", line) for name, line in tree)
        return b"\n".join(name + b" " + msgspec.json.encode(line) for name, line in lines)

    return st.one_of(
        edits.trees_like(trees, join),
        edits.edited(edits.trees_like(trees, join)),
        edits.bytes_like(files, least=1),
    )
