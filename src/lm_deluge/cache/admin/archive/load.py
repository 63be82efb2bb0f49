"""Import of a bundle into a store.

A bundle may be hostile. Each line is checked by its digest, and each key by the request that it belongs to. What does
not fit is left out and named.
"""

import hashlib
import os
from contextlib import closing

import msgspec

from lm_deluge import canonical
from lm_deluge._optional import NEWER
from lm_deluge._printable import shown
from lm_deluge.cache.admin.archive.bundle import (
    FORMAT,
    MAX_LINE_BYTES,
    VERSION,
    End,
    EntryLine,
    Header,
    Line,
    RunLine,
    open_line,
)
from lm_deluge.cache.admin.archive.checking import (
    check_depth,
    fingerprint_in,
    key_in,
    response_in,
    sound_facts,
    sound_run,
    sound_time,
)
from lm_deluge.cache.admin.archive.incoming import Conflict, Incoming, OnConflict, told, told_conflicts
from lm_deluge.cache.admin.archive.reading import RawLine, Source, lines_of
from lm_deluge.cache.admin.archive.sharing import SharedLines
from lm_deluge.cache.admin.filters import runs_of
from lm_deluge.cache.admin.reports import Cut, Left, LeftOut, check_namespace, shortened
from lm_deluge.cache.assembly import entry_of
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.record import PackedRequest, StoredRequest
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores import ConversationStore, JournalStore, Store
from lm_deluge.errors import CacheFileError, CacheVersionError, DamagedEntryError
from lm_deluge.response import APIResponse
from lm_deluge.text import counted

__all__ = ["ImportReport", "load"]


class ImportReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of an import.

    Attributes:
        added: entries that were not there.
        identical: entries that were there with the same answer.
        conflicts: entries that were there with another answer.
        replaced: how many of those were replaced.
        unchecked: of all these, entries whose key could not be checked: redacted, or without a request.
        refused: lines that were left out: damaged, or not what they should be.
        stopped: why reading ended early; None if the bundle was read to its end.
        dry_run: whether nothing was stored.
        first_conflicts: the first of them.
        left: the first lines that were left out, by number, and why.
    """

    added: int = 0
    identical: int = 0
    conflicts: int = 0
    replaced: int = 0
    unchecked: int = 0
    refused: int = 0
    stopped: str | None = None
    dry_run: bool = False
    first_conflicts: tuple[Conflict, ...] = ()
    left: tuple[Left, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether the whole bundle was read, and every line was good."""
        return self.stopped is None and not self.refused

    def __str__(self) -> str:
        said = [told(self)]
        if self.unchecked:
            said.append(f"{self.unchecked:,} of them redacted or without their request, so their keys are not checked")
        said.extend(told_conflicts(self))
        if self.refused:
            said.append(f"{counted(self.refused, 'line')} left out")
            said.extend(shortened(self.left, self.refused))
        if self.stopped is not None:
            said.append(f"Stopped early: {self.stopped}. What came before it is kept.")
        return shown("\n".join(said), lines=True)


def load(
    store: Store,
    source: Source,
    *,
    on_conflict: OnConflict = "keep",
    namespace: str | None = None,
    dry_run: bool = False,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> ImportReport:
    """Put the entries of a bundle into a store. Doing it again, after an interruption for example, does no harm.

    Damaged lines are left out. A bundle that was cut short is used as far as it goes.

    Args:
        store: where they go.
        source: a path, whose file may be compressed, or an open binary file.
        on_conflict: what to do where another answer is stored under the same key: ``"keep"`` it, ``"replace"`` it, or
            ``"fail"``: stop there.
        namespace: store all entries under this ``cache_key`` instead of their own.
        dry_run: only say what would happen.
        max_line_bytes: longer lines are left out.

    Raises:
        CacheFileError: the file cannot be opened, or is no bundle.
        CacheVersionError: a newer version of this package wrote it.
        CacheError: the store cannot be asked or written. What was stored until then stays.
        ConfigError: an option has no meaning.
    """
    check_namespace(namespace)
    incoming = Incoming(store, on_conflict=on_conflict, dry_run=dry_run)
    with closing(SharedLines()) as shared:
        return _Load(store, incoming, shared, namespace=namespace, dry_run=dry_run).run(source, max_line_bytes)


class _Load:
    """One import in progress."""

    def __init__(
        self, store: Store, incoming: Incoming, shared: SharedLines, *, namespace: str | None, dry_run: bool
    ) -> None:
        self._journal = store if isinstance(store, JournalStore) and not dry_run else None
        self._runs = set(runs_of(store)) if self._journal is not None else set()
        self._finds = getattr(store, "finds", isinstance(store, ConversationStore))
        self._incoming = incoming
        self._shared = shared
        self._namespace = namespace
        self._header: Header | None = None
        self._end: End | None = None
        self._digest = hashlib.sha256()
        self._unchecked = self._refused = 0
        self._left = LeftOut()

    def run(self, source: Source, max_line_bytes: int) -> ImportReport:
        stopped: str | None = None
        try:
            self._read(source, max_line_bytes)
        except Cut as cut:
            if self._header is None:
                raise CacheFileError(f"{_name(source)} is no bundle: {cut}.") from cut
            stopped = str(cut)
        try:
            self._incoming.flush()
        except Cut as cut:
            stopped = str(cut)
        return ImportReport(
            unchecked=self._unchecked,
            refused=self._refused,
            stopped=stopped,
            left=tuple(self._left),
            **self._incoming.counts(),
        )

    def _read(self, source: Source, max_line_bytes: int) -> None:
        number = 0
        for raw in lines_of(source, max_line_bytes):
            if self._header is None:
                self._header = _header(raw, source)
            else:
                entry = self._taken(raw)
                if entry is not None:
                    self._incoming.add(*entry)
            number = raw.number
            if self._end is None:
                self._digest.update(raw.data or b"")
                self._digest.update(b"\n")
        if self._header is None:
            raise CacheFileError(f"{_name(source)} is empty; it is no bundle.")
        if self._end is None:
            raise Cut(f"the bundle was cut short: it ends with line {number}, which is not its last")
        if not self._refused and self._end.all != self._digest.hexdigest():
            raise Cut("lines of the bundle are missing, doubled or in another order, though each is good")

    def _taken(self, raw: RawLine) -> tuple[Entry, APIResponse] | None:
        try:
            return self._take(raw)
        except (DamagedEntryError, ValueError, RecursionError) as error:
            self._refused += 1
            self._left.note(f"line {raw.number}", error)
            return None

    def _take(self, raw: RawLine) -> tuple[Entry, APIResponse] | None:
        if raw.data is None:
            raise DamagedEntryError("it is too long")
        if self._end is not None:
            raise DamagedEntryError("it comes after the end of the bundle")
        name, line = open_line(raw.data)
        match line:
            case EntryLine():
                return self._entry(line)
            case RunLine():
                self._run(sound_run(line.run))
            case End():
                self._end = line
            case Header():
                raise DamagedEntryError("a second bundle begins here; import each by itself")
            case _:
                self._shared.add(name, raw.data, line)
        return None

    def _entry(self, line: EntryLine) -> tuple[Entry, APIResponse]:
        key, response, facts = key_in(line), response_in(line), sound_facts(line.facts)
        sound_time(line.expires or 0)
        if not line.namespace:
            raise DamagedEntryError("it has no namespace")
        request = None if line.request is None else self._shared.request(line.request)
        namespace = self._namespace or line.namespace
        fingerprint = fingerprint_in(line)
        packed = PackedRequest(b"", (), {})
        if request is not None:
            check_depth(msgspec.to_builtins(request.parameters))
            if not 0 <= request.sample < 2**63:
                raise DamagedEntryError(f"its sample is {request.sample}")
            packed = request.pack()
        if request is None or request.redacted:
            if namespace != line.namespace:
                raise DamagedEntryError(f"it cannot be moved to {namespace!r}: a key needs the request as it was")
            self._unchecked += 1
        else:
            key = self._checked_key(key, request, line.namespace, namespace)
            if request.parameters is not None:
                fingerprint = request.parameters.fingerprint
        entry = entry_of(
            key,
            response,
            packed,
            namespace=namespace,
            created=facts.created,
            fingerprint=fingerprint,
            facts=facts,
            expires=line.expires,
        )
        return entry, response

    def _checked_key(self, key: bytes, request: StoredRequest, namespace: str, wanted: str) -> bytes:
        # A bundle of another key scheme has other keys; its entries get new ones.
        is_of_today = self._header is not None and self._header.keys == canonical.SCHEME
        if is_of_today and not request.has_key(key, namespace):
            raise DamagedEntryError("its key is not that of its request")
        return request.key(wanted, key, finds=self._finds)

    def _run(self, run: Run) -> None:
        if self._journal is not None and run.id not in self._runs:
            self._journal.record_run(run)
            self._runs.add(run.id)


def _header(raw: RawLine, source: Source) -> Header:
    line: Line | None = None
    try:
        _, line = open_line(raw.data or b"")
    except DamagedEntryError as error:
        raise CacheFileError(f"{_name(source)} is no bundle, or its first line is damaged: {error}.") from error
    if not isinstance(line, Header) or line.format != FORMAT:
        raise CacheFileError(f"{_name(source)} is no bundle.")
    if line.version > VERSION:
        raise CacheVersionError(
            f"{_name(source)} has format {line.version}; this version of lm_deluge knows {VERSION}. {NEWER}"
        )
    return line


def _name(source: Source) -> str:
    return str(source) if isinstance(source, (str, os.PathLike)) else "The input"
