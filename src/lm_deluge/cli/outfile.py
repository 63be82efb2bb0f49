"""A file of results that others may take away while it is written: it is looked for before each line.

What was removed is written again in its place, with all that it held. What was replaced by another file, or cannot be
written there, is written beside it, or else among the temporary files. So no result is lost by what happens to
the path. Before each line, because a removed file is gone with the process.
"""

import fcntl
import itertools
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lm_deluge.errors import ConfigError

__all__ = ["OutFile"]

_CHUNK = 1024 * 1024
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC


class OutFile:
    """A file that is locked against other runs, and appended to.

    A new one is its owner's alone under any umask; one that was there keeps its mode. The path is no symbolic link, and
    messages call the file by its name.

    Attributes:
        path: where it is now.
        notices: what happened to it, for the user.
        misplaced: whether the path that was given does not hold all that was written.

    Raises:
        ConfigError: another run writes to it.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.notices: list[str] = []
        self.misplaced = False
        self._name = name
        self._end = 0
        self._take(_open_locked(path, name))

    def write(self, data: bytes) -> None:
        """Append. It is with the operating system when this returns, so a killed process loses nothing.

        Raises:
            OSError: it cannot be written; the error names the file.
        """
        found = os.fstat(self._descriptor)
        if not found.st_nlink or found.st_size < self._end:  # the quicker half of a look: one moved away is not lost
            self.look()
        try:
            _write(self._descriptor, data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._end += len(data)

    def look(self) -> None:
        """See that the file is where it was, and mend that if it is not.

        Raises:
            ConfigError: it has been removed, and cannot be written anywhere.
        """
        if not stat.S_ISREG(self._stat.st_mode):
            return
        try:
            there = self.path.stat()
        except OSError:
            there = None
        if there is None or not os.path.samestat(there, self._stat):
            self._write_again(is_replaced=there is not None)
        elif there.st_size < self._end:
            self._note(
                f"{self._name} was cut short by another program during the run: {self._end - there.st_size:,} bytes of "
                "results are gone. Run the same command again to ask for them.",
                misplaced=True,
            )
            self._end = there.st_size

    def truncate(self, size: int) -> None:
        """Drop all that follows ``size``."""
        os.truncate(self._descriptor, size)
        self._end = size

    def replace(self, parts: Iterable[bytes]) -> None:
        """Let the file hold these instead, in one step: a process that is killed here loses nothing.

        Raises:
            OSError: it cannot be done. The file is as it was.
        """
        copy, path = _temporary(dir=self.path.parent, prefix=f".{self.path.name}.")
        self._move_into(copy, path, parts, final=self.path)

    def close(self) -> None:
        """Release the file."""
        os.close(self._descriptor)

    def _move_into(self, descriptor: int, path: Path, parts: Iterable[bytes], *, final: Path | None = None) -> None:
        """Write all of it into a new file, which is ours from then on. Where that fails there is no such file."""
        try:
            _lock(descriptor)
            os.fchmod(descriptor, stat.S_IMODE(self._stat.st_mode))
            for part in parts:
                _write(descriptor, part)
            if final is not None:
                os.fsync(descriptor)
                path.replace(final)
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        os.close(self._descriptor)
        self._take(descriptor)

    def _take(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._stat = os.fstat(descriptor)
        self._end = self._stat.st_size

    def _write_again(self, *, is_replaced: bool) -> None:
        what = "replaced by another file" if is_replaced else "removed"
        descriptor, path = self._new_place(what, in_place=not is_replaced)
        chunks = (os.pread(self._descriptor, _CHUNK, start) for start in itertools.count(0, _CHUNK))
        self._move_into(descriptor, path, itertools.takewhile(bool, chunks))
        if path == self.path:
            self._note(f"{self._name} was removed during the run. It was written again, with all results.")
        else:
            self._note(
                f"{self._name} was {what} during the run. All results are in {path}; to continue, give that as --out.",
                misplaced=True,
            )
        self.path = path

    def _new_place(self, what: str, *, in_place: bool) -> tuple[int, Path]:
        failure: OSError | None = None
        here = [self._in_place] if in_place else []
        for place in (*here, self._beside, self._elsewhere):
            try:
                return place()
            except OSError as error:
                failure = failure or error
        reason = failure and failure.strerror
        raise ConfigError(f"{self._name} was {what} during the run, and its results cannot be kept: {reason}.")

    def _in_place(self) -> tuple[int, Path]:
        return _new(self.path), self.path

    def _beside(self) -> tuple[int, Path]:
        for number in itertools.count(1):
            path = self.path.with_name(f"{self.path.stem}.rescued-{number}{self.path.suffix}")
            try:
                return _new(path), path
            except FileExistsError:
                continue
        raise AssertionError  # numbers do not end

    def _elsewhere(self) -> tuple[int, Path]:
        return _temporary(prefix=f"{self.path.stem}.", suffix=self.path.suffix)

    def _note(self, text: str, *, misplaced: bool = False) -> None:
        self.misplaced = self.misplaced or misplaced
        if text not in self.notices:
            self.notices.append(text)


def _new(path: Path) -> int:
    return os.open(path, _APPEND | os.O_CREAT | os.O_EXCL, 0o600)


def _temporary(**where: Any) -> tuple[int, Path]:
    descriptor, name = tempfile.mkstemp(**where)
    os.close(descriptor)
    return os.open(name, _APPEND), Path(name)


def _open_locked(path: Path, name: str) -> int:
    while True:
        descriptor = os.open(path, _APPEND | os.O_CREAT, 0o600)
        try:
            _lock(descriptor)
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise ConfigError(f"Another run is writing to {name}. Wait for it, or choose another --out.") from error
        except FileNotFoundError:
            pass
        # The file was replaced between the two calls: what is locked is no longer what the path names.
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)[os.write(descriptor, data) :]
    while left:
        left = left[os.write(descriptor, left) :]
