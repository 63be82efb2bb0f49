"""Export from a store to a bundle: chosen entries as checksummed JSON lines that people can read."""

import contextlib
import gzip
import math
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from lm_deluge._json import JsonReader
from lm_deluge._printable import shown
from lm_deluge.cache.admin.archive._recent import remembering
from lm_deluge.cache.admin.archive.bundle import BundleWriter, EntryLine, RunLine
from lm_deluge.cache.admin.archive.reading import is_bundle
from lm_deluge.cache.admin.archive.sharing import divide
from lm_deluge.cache.admin.filters import Filter, entries, runs_of, scannable
from lm_deluge.cache.admin.reports import Left, LeftOut, shortened
from lm_deluge.cache.codec import UNKNOWN, Decoded, decode
from lm_deluge.cache.entry import Stored
from lm_deluge.cache.record import StoredRequest, unpack_request
from lm_deluge.cache.stores import JournalStore, Store
from lm_deluge.errors import CacheFileError, DamagedEntryError
from lm_deluge.response import APIResponse
from lm_deluge.text import counted

__all__ = ["ExportReport", "Redact", "entry_line", "export"]

Redact = Callable[[StoredRequest, APIResponse], tuple[StoredRequest, APIResponse] | None]
"""Changes what goes into a bundle. None leaves the entry out."""

_json = msgspec.json.Encoder()
_json_response: JsonReader[APIResponse] = JsonReader(APIResponse)
_pack = msgspec.msgpack.Encoder()


class ExportReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was written.

    Attributes:
        entries: written.
        redacted: how many of those are noted as changed, now or before.
        dropped: left out because ``redact`` gave None.
        without_request: written without their request, because none was stored or it could not be read. Their keys
            cannot be checked or made again.
        damaged: left out because they do not decode.
        lines: of the bundle.
        bytes: of the bundle, before compression.
        left: the first entries that are damaged or without their request, and why.
    """

    entries: int = 0
    redacted: int = 0
    dropped: int = 0
    without_request: int = 0
    damaged: int = 0
    lines: int = 0
    bytes: int = 0
    left: tuple[Left, ...] = ()

    def __str__(self) -> str:
        size = f"{counted(self.lines, 'line')}, {self.bytes:,} bytes"
        said = [f"{counted(self.entries, 'entry', 'entries')} written ({size})"]
        others = (
            (self.redacted, "redacted"),
            (self.without_request, "written without their request"),
            (self.dropped, "left out by the redaction"),
            (self.damaged, "left out because they are damaged"),
        )
        said += [f"{count:,} {what}" for count, what in others if count]
        return shown("\n".join([*said, *shortened(self.left, self.damaged + self.without_request)]), lines=True)


def export(
    store: Store,
    destination: str | os.PathLike[str] | Callable[[bytes], object],
    filter: Filter = Filter(),  # noqa: B008 - frozen
    *,
    redact: Redact | None = None,
    now: float | None = None,
) -> ExportReport:
    """Write entries of a store to a bundle, a few at a time.

    Args:
        store: any store that can be scanned.
        destination: a path, or a function that takes the bytes of each line. A file is private (0600), is compressed
            when its name ends in ``.gz``, and appears when it is complete.
        filter: which entries; all if not given.
        redact: takes the request and the response of each entry and gives back what to write instead, or None to
            leave the entry out. An entry that it changed keeps its key and says so; the provider's body and log
            probabilities repeat much of both, so they are left out unless ``redact`` gave others. Names and tags of
            runs are left out too. The key remains the hash of what was asked: it confirms a right guess.
        now: seconds since the Unix epoch; the system's time if not given.

    Raises:
        CacheError: the store cannot be scanned or read.
        CacheFileError: the file cannot be written, or something else is there.
    """
    created = time.time() if now is None else now
    if callable(destination):
        return _Export(store, BundleWriter(destination, created=created), redact).run(filter)
    with _new_file(Path(destination).expanduser()) as write:
        return _Export(store, BundleWriter(write, created=created), redact).run(filter)


class _Export:
    """One export in progress."""

    def __init__(self, store: Store, writer: BundleWriter, redact: Redact | None) -> None:
        self._store = store
        self._writer = writer
        self._redact = redact
        self._read_blobs = remembering(scannable(store).read_blobs)
        # Names and tags may tell what a redaction hides.
        self._runs = runs_of(store) if isinstance(store, JournalStore) and redact is None else {}
        self._counts = Counter[str]()
        self._left = LeftOut()

    def run(self, filter: Filter) -> ExportReport:
        for stored in entries(self._store, filter):
            try:
                self._write(stored)
            except DamagedEntryError as error:
                self._counts["damaged"] += 1
                self._left.note(stored.key.hex(), error)
        self._writer.finish()
        return ExportReport(
            entries=self._writer.entries,
            lines=self._writer.lines,
            bytes=self._writer.bytes,
            left=tuple(self._left),
            **self._counts,
        )

    def _write(self, stored: Stored) -> None:
        found = decode(stored.key, stored.value)
        request, response = self._request(stored), found.response
        if self._redact is not None:
            # What cannot be shown to the hook must not pass it.
            changed = None if request is None else _redacted(self._redact, request, response)
            if changed is None:
                self._counts["dropped"] += 1
                return
            request, response = changed
        line = entry_line(stored, found, response)
        if request is not None:
            line = msgspec.structs.replace(line, request=divide(request, self._writer))
        if (run := self._runs.get(stored.facts.run)) is not None:
            self._writer.share(RunLine(msgspec.structs.replace(run, report=None, imported=False)))
        self._writer.add(line)
        self._counts["without_request"] += request is None
        self._counts["redacted"] += request is not None and request.redacted

    def _request(self, stored: Stored) -> StoredRequest | None:
        try:
            if stored.request:
                return unpack_request(stored.request, self._read_blobs)
            self._left.note(stored.key.hex(), "no request was stored")
        except DamagedEntryError as error:
            self._left.note(stored.key.hex(), error)
        return None


def _redacted(
    redact: Redact, request: StoredRequest, response: APIResponse
) -> tuple[StoredRequest, APIResponse] | None:
    changed = redact(request, response)
    if changed is None or changed == (request, response):
        return changed
    now_asked, now_answered = changed
    # These repeat much of both.
    repeated = {
        name: None for name in ("raw_body", "logprobs") if getattr(now_answered, name) == getattr(response, name)
    }
    return msgspec.structs.replace(now_asked, redacted=True), msgspec.structs.replace(now_answered, **repeated)


def entry_line(stored: Stored, found: Decoded, response: APIResponse) -> EntryLine:
    """The line of an entry, without its request."""
    body: str | None = None
    body_base64 = response.raw_body
    if response.raw_body is not None:
        with contextlib.suppress(UnicodeDecodeError):
            body, body_base64 = response.raw_body.decode(), None
    shown = msgspec.structs.replace(response, raw_body=None)
    packed = _pack.encode(shown)
    created = found.created or stored.facts.created
    is_exact = _pack.encode(_json_response.read(_json.encode(shown))) == packed
    return EntryLine(
        key=stored.key.hex(),
        namespace=stored.namespace,
        response=shown,
        body=body,
        body_base64=body_base64,
        exact=None if is_exact else packed,
        facts=msgspec.structs.replace(stored.facts, created=created if math.isfinite(created) else 0.0),
        fingerprint="" if found.fingerprint == UNKNOWN else found.fingerprint.hex(),
        expires=stored.expires,
    )


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Callable[[bytes], object]]:
    """Writes a private file that takes the place of ``path`` once all is written, and is gone if something fails."""
    if path.exists() and not is_bundle(path):
        raise CacheFileError(f"{path} exists and is no bundle. Remove it, or choose another name.")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with _reported(path):
        plain = os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    try:
        with plain:
            packed = gzip.GzipFile("", "wb", 6, plain, mtime=0) if path.suffix == ".gz" else None
            target: IO[bytes] | gzip.GzipFile = packed or plain

            def write(data: bytes) -> None:
                with _reported(path):
                    target.write(data)

            yield write
            with _reported(path):
                if packed is not None:
                    packed.close()
                plain.flush()
                os.fsync(plain.fileno())
        with _reported(path):
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheFileError(f"{path} cannot be written: {error.strerror or error}.") from error
