"""Entries in a LevelDB directory, through ``plyvel``. One process at a time, as LevelDB itself demands."""

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lm_deluge._optional import require
from lm_deluge.cache.codec import compress
from lm_deluge.cache.record import Entry
from lm_deluge.errors import CacheFileError

__all__ = ["LevelDBStore"]

_ENTRY = b"e"
_REQUEST = b"r"
_BLOB = b"b"
_DAMAGED = b"d"
_FORMAT = b"lm_deluge"

# The files of a LevelDB, from its "Files" documentation; a start that was cut off leaves some of them.
_FILES = re.compile(r"CURRENT|LOCK|LOG(\.old)?|MANIFEST-\d+|\d+\.(log|ldb|sst|dbtmp)|lost")


class LevelDBStore:
    """A LevelDB directory, made private (0700) when it is new.

    Raises:
        ImportError: ``plyvel`` is missing; the message holds the command that installs it.
        CacheFileError: the directory cannot be opened, is in use, or holds something else. Other files are left
            untouched; in another program's LevelDB, LevelDB itself starts a new log when it looks.
    """

    blocks: ClassVar[bool] = True

    def __init__(self, directory: str | Path) -> None:
        plyvel = require("plyvel", extra="leveldb", purpose="LevelDBCache")
        self._error: type[Exception] = plyvel.Error
        self._pid = os.getpid()
        self._writing = threading.Lock()
        self._path = Path(directory).expanduser()
        self._check_directory()
        try:
            self._db: Any = plyvel.DB(str(self._path), create_if_missing=True)
        except plyvel.Error as error:
            raise CacheFileError(
                f"LevelDB cannot open {self._path}: {error}. LevelDB serves one process at a time; "
                "use SqliteCache for several."
            ) from error
        self._claim()

    def _check_directory(self) -> None:
        """Refuse a place that is not ours before LevelDB writes its own files into it."""
        if not self._path.exists():
            try:
                self._path.mkdir(mode=0o700, parents=True)
            except OSError as error:
                raise CacheFileError(f"The directory {self._path} cannot be made: {error}.") from error
            return
        if not self._path.is_dir():
            raise CacheFileError(f"{self._path} is a file; LevelDBCache needs a directory.")
        try:
            foreign = [child.name for child in self._path.iterdir() if not _FILES.fullmatch(child.name)]
        except OSError as error:
            raise CacheFileError(f"The directory {self._path} cannot be read: {error}.") from error
        if foreign:
            raise CacheFileError(
                f"{self._path} holds files that are not LevelDB's, such as {min(foreign)}. Give an empty directory."
            )

    def _claim(self) -> None:
        found = self._db.get(b"format")
        if found == _FORMAT:
            return
        with self._db.iterator(include_value=False) as keys:
            foreign = next(iter(keys), None) is not None
        if found is not None or foreign:
            self._db.close()
            raise CacheFileError(f"{self._path} is a LevelDB of another program. Give another directory.")
        self._db.put(b"format", _FORMAT)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._opened() as db:
            return [db.get(_ENTRY + key) for key in keys]

    def put_many(self, entries: Sequence[Entry]) -> None:
        with self._writing, self._opened() as db, db.write_batch(transaction=True) as batch:
            for entry in entries:
                batch.put(_ENTRY + entry.key, entry.value)
                batch.put(_REQUEST + entry.key, entry.request)
                for digest, blob in entry.blobs.items():
                    if db.get(_BLOB + digest) is None:
                        batch.put(_BLOB + digest, compress(blob))

    def set_aside(self, key: bytes, value: object, reason: str) -> None:
        with self._writing, self._opened() as db:
            if db.get(_ENTRY + key) != value:
                return
            with db.write_batch(transaction=True) as batch:
                batch.put(_DAMAGED + key, value)
                batch.delete(_ENTRY + key)

    def delete(self, key: bytes) -> bool:
        with self._writing, self._opened() as db:
            found = db.get(_ENTRY + key) is not None
            with db.write_batch(transaction=True) as batch:
                batch.delete(_ENTRY + key)
                batch.delete(_REQUEST + key)
            return found

    def close(self) -> None:
        # A child's copy has no threads to stop, and closing it could wait for them without end.
        if self._pid == os.getpid():
            self._db.close()

    @property
    def location(self) -> str:
        return str(self._path)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        if self._pid != os.getpid():
            raise CacheFileError(
                f"{self._path} was opened before this process was forked, and LevelDB serves one process at a time. "
                "Use SqliteCache for several."
            )
        try:
            yield self._db
        except self._error as error:
            raise CacheFileError(f"LevelDB failed in {self._path}: {error}.") from error
