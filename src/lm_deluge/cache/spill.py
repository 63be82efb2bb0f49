"""Answers that a cache did not take. They are kept in a private file on this machine until it does.

The file is a bundle (``admin/archive/bundle.py``), so ``deluge cache import`` reads it too. It is written at once, so
it survives the process. Its writer holds a lock on it. A file without a lock was left by a process that has ended; the
next process that uses the same cache takes it in. Without such a file, answers stay in memory, up to a limit.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import stat
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import msgspec

from lm_deluge._files import make_private_directories
from lm_deluge.cache._batched import batched
from lm_deluge.cache.entry import Entry, blobs_in
from lm_deluge.cache.runs import Run
from lm_deluge.errors import DamagedEntryError

if TYPE_CHECKING:
    from lm_deluge.cache.admin.archive.bundle import BundleWriter
    from lm_deluge.cache.stores import Store

__all__ = ["Spill", "SpillPlace", "Taker", "spill_directory"]

SpillPlace = str | os.PathLike[str] | bool | None
"""A directory; True or None for the usual one, False for none: then only memory keeps what a cache does not take."""

_VARIABLE = "LM_DELUGE_SPILL"
_MOST_BYTES = 64 * 1024 * 1024  # in memory
_AT_ONCE = 256
_NO = ("0", "no", "off", "false")


def spill_directory(place: SpillPlace) -> Path | None:
    """Where spill files go; None for nowhere. The environment's ``LM_DELUGE_SPILL`` counts where no place is given:
    a directory, or ``off``."""
    if place is False:
        return None
    if place is not None and place is not True:
        return Path(place).expanduser()
    given = os.environ.get(_VARIABLE, "")
    if given.lower() in _NO:
        return None
    if given:
        return Path(given).expanduser()
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "lm_deluge" / "spill"


class Taker(Protocol):
    """Takes what was kept. To ``load`` it is a store: one without ``runs``, so no account of a run goes that way.

    Attributes:
        refused: how many entries it rejected, though it takes others.
        finds: whether it finds all answers to a conversation, so that entries have keys of 48 bytes.
    """

    refused: int
    finds: bool

    @property
    def location(self) -> str: ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...

    def put_many(self, entries: Sequence[Entry]) -> None: ...

    def quarantine(self, key: bytes, value: object, reason: str) -> bool: ...

    def record_run(self, run: Run) -> None: ...


class _Finished(NamedTuple):
    path: Path
    file: IO[bytes]  # whose lock is held
    entries: int


class Spill:
    """What one process keeps for one cache.

    Args:
        directory: where files go; made private if it has to be made. None for memory alone.
        identity: what tells this cache from others on every machine that reads the file, without a credential.
        adopts: whether files that other processes left for a cache of this identity are its own.

    Attributes:
        dropped: how many entries could not be kept.
    """

    def __init__(self, directory: Path | None, identity: str, *, adopts: bool = True) -> None:
        self._directory = directory
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", identity).strip("-.")[:60]
        self._name = f"{readable}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
        self._adopts = adopts
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._file: IO[bytes] | None = None
        self._writer: BundleWriter | None = None
        self._finished: list[_Finished] = []
        self._at_exit: Any = None
        self._memory: list[Entry] = []
        self._memory_bytes = 0
        self.dropped = 0

    @property
    def kept(self) -> int:
        """How many entries wait."""
        written = 0 if self._writer is None else self._writer.entries
        return len(self._memory) + written + sum(one.entries for one in self._finished)

    @property
    def place(self) -> str:
        """Where entries are kept, for messages."""
        return "memory" if self._directory is None else str(self._path or self._directory)

    def add(self, entries: Sequence[Entry]) -> None:
        """Keep entries: in the file, or in memory if that cannot be written."""
        with self._lock:
            for entry in entries:
                try:
                    written = self._write(entry)
                    if written and self._file is not None:
                        self._file.flush()
                except DamagedEntryError:
                    written = False
                except OSError:  # a full disk: what is in the file stays there, and the rest goes into memory
                    written = False
                    self._finish()
                    self._directory = None
                if not written:
                    self._remember(entry)

    def take_in(self, taker: Taker) -> None:
        """Hand over all that is kept now, also by processes that have ended.

        Raises:
            CacheError: the store cannot be asked or written. What it has not taken is kept.
        """
        from lm_deluge.cache.admin.archive.load import load

        with self._lock:
            self._finish()
            remembered = list(self._memory)
            files = [*self._finished, *self._left_by_others()]
        for some in batched(remembered, _AT_ONCE):
            taker.put_many(some)
        with self._lock:
            del self._memory[: len(remembered)]
            self._memory_bytes = sum(one.size for one in self._memory)
        try:
            for one in files:
                taker.refused = 0
                # A delayed ``put`` replaces the entry, as a timely one would have.
                report = load(cast("Store", taker), one.path, on_conflict="replace")
                with contextlib.suppress(OSError):
                    if report.refused or taker.refused:  # neither tried again nor deleted
                        one.path.rename(one.path.with_suffix(".refused"))
                    else:
                        one.path.unlink()
                with self._lock:
                    self._finished = [other for other in self._finished if other is not one]
                    one.file.close()
        finally:
            for one in files:
                if one not in self._finished:
                    one.file.close()

    def has_left(self) -> bool:
        """Whether there are files of processes that have ended."""
        for one in self._left_by_others():
            one.file.close()
            return True
        return False

    def close(self) -> None:
        """Leave what is kept to the next process."""
        with self._lock:
            self._finish()
            for one in self._finished:
                with contextlib.suppress(OSError):  # a full disk: the buffer cannot be written
                    one.file.close()
            self._finished.clear()

    def _remember(self, entry: Entry) -> None:
        if self._memory_bytes + entry.size > _MOST_BYTES:
            self.dropped += 1
            return
        self._memory.append(entry)
        self._memory_bytes += entry.size

    # The file

    def _write(self, entry: Entry) -> bool:
        from lm_deluge.cache.admin.archive.export import entry_line
        from lm_deluge.cache.admin.archive.sharing import divide
        from lm_deluge.cache.codec import decode
        from lm_deluge.cache.record import unpack_request

        writer = self._open()
        if writer is None:
            return False
        found = decode(entry.key, entry.value)
        line = entry_line(entry.as_stored(), found, found.response)
        if entry.request:
            request = unpack_request(entry.request, blobs_in(entry.blobs))
            line = msgspec.structs.replace(line, request=divide(request, writer))
        writer.add(line)
        return True

    def _open(self) -> "BundleWriter | None":
        from lm_deluge.cache.admin.archive.bundle import BundleWriter

        if self._writer is None and self._directory is not None and _is_private(self._directory):
            path = self._directory / f"{self._name}-{secrets.token_hex(6)}.jsonl"
            file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._path, self._file = path, file
            self._writer = BundleWriter(file.write, created=time.time())
            self._at_exit = weakref.finalize(self, _end, self._writer, file, os.getpid())
        return self._writer

    def _finish(self) -> None:
        if self._writer is None or self._file is None or self._path is None:
            return
        _end(self._writer, self._file, os.getpid(), close=False)
        self._at_exit.detach()
        weakref.finalize(self, self._file.close)
        self._finished.append(_Finished(self._path, self._file, self._writer.entries))
        self._writer = self._file = self._path = None

    def _left_by_others(self) -> Iterator[_Finished]:
        """Files without an owner, now locked."""
        if self._directory is None or not (self._adopts and self._directory.is_dir() and _is_private(self._directory)):
            return
        for path in sorted(self._directory.glob(f"{self._name}-*.jsonl")):
            with contextlib.suppress(OSError):
                file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
                if _is_ours(file, path):
                    yield _Finished(path, file, 0)
                else:
                    file.close()


def _end(writer: "BundleWriter", file: IO[bytes], pid: int, *, close: bool = True) -> None:
    if pid != os.getpid():
        return  # a forked child leaves the file to its parent
    with contextlib.suppress(OSError):
        writer.finish()
        file.flush()
    if close:
        with contextlib.suppress(OSError):
            file.close()


def _is_private(directory: Path) -> bool:
    """Whether no other user can write there. A missing directory is made."""
    try:
        make_private_directories(directory)
        found = directory.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _is_ours(file: IO[bytes], path: Path) -> bool:
    """Whether it is a file of this user, without a writer, and still the file of that name."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found, named = os.fstat(file.fileno()), path.lstat()
    except OSError:
        return False
    same = (found.st_dev, found.st_ino) == (named.st_dev, named.st_ino)
    return same and stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1
