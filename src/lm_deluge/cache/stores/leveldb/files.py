"""The files of a LevelDB directory before LevelDB sees them.

LevelDB opens its files by name: it follows links, and writes to what it finds. Its next names are predictable, so a
link under one of them would make it write into a file elsewhere. Therefore a directory may hold nothing but regular
files with one name each, and a reader gets a copy of them.
"""

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lm_deluge.errors import CacheFileError

__all__ = ["check_directory", "copy_privately", "files_in", "in_use", "said_by"]

# From LevelDB's "Files" documentation. An interrupted start leaves some of them. "lost" is a directory that
# repair_db() makes, and that LevelDB itself does not look at.
_FILES = re.compile(r"CURRENT|LOCK|LOG(\.old)?|MANIFEST-[0-9]+|[0-9]+\.(log|ldb|sst|dbtmp)|lost")
_DATA = re.compile(r"CURRENT|MANIFEST-[0-9]+|[0-9]+\.(log|ldb|sst)")
_CURRENT = re.compile(rb"MANIFEST-[0-9]{1,20}\n?")
_MOST_CURRENT = 64
_AT_ONCE = 1024 * 1024
_ATTEMPTS = 5


def check_directory(path: Path) -> None:
    """Refuse a directory that holds anything but the files of a LevelDB. Nothing is changed.

    Raises:
        CacheFileError: there is something else in it: another program's file, a link, a device.
    """
    with _opened(path) as directory:
        files_in(path, directory)
        _check_current(path, directory)


@contextlib.contextmanager
def copy_privately(path: Path) -> Iterator[Path]:
    """A copy of a LevelDB, in a directory of its owner alone, which is removed at the end. The original is not changed.

    Raises:
        CacheFileError: as ``check_directory``; or it is in use, cannot be read, or there is no room for the copy.
    """
    with contextlib.ExitStack() as made:
        with _opened(path) as directory:
            files_in(path, directory)
            temporary = Path(made.enter_context(_temporary(path)))
            with _locked(path, directory):
                copy = _copied(path, directory, temporary)
        yield copy


def _copied(path: Path, directory: int, temporary: Path) -> Path:
    attempt = 0
    while True:
        copy = temporary / f"copy-{attempt}"
        copy.mkdir(mode=0o700)
        try:
            _copy_all(path, directory, copy)
        except CacheFileError as error:
            # A store of this process that has just closed it may still remove files that it no longer needs.
            attempt += 1
            if not isinstance(error.__cause__, FileNotFoundError) or attempt == _ATTEMPTS:
                raise
        else:
            return copy


def _copy_all(path: Path, directory: int, copy: Path) -> None:
    names = [name for name in files_in(path, directory) if _DATA.fullmatch(name)]
    _check_current(path, directory)
    for name in names:
        _copy(path, directory, name, copy)


def files_in(path: Path, directory: int | None = None) -> dict[str, int]:
    """Names and sizes of the files in a directory.

    Args:
        path: of the directory.
        directory: a descriptor of it, if there is one.

    Raises:
        CacheFileError: as ``check_directory``.
    """
    found = {}
    with _told(path), os.scandir(path if directory is None else directory) as children:
        for child in children:
            try:
                about = child.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # an open LevelDB removes what it no longer needs
            if not _FILES.fullmatch(child.name):
                raise CacheFileError(
                    f"{path} holds files that are not LevelDB's, such as {child.name}. Give an empty directory."
                )
            if child.name == "lost" and stat.S_ISDIR(about.st_mode):
                continue
            _check_regular(path, child.name, about)
            found[child.name] = about.st_size
    return found


def in_use(path: Path, said: str) -> CacheFileError:
    """The error for a LevelDB that cannot be opened."""
    return CacheFileError(
        f"LevelDB cannot open {path}: {said}. LevelDB serves one process at a time; use SqliteCache for several."
    )


def said_by(error: Exception) -> str:
    """The message of an error of LevelDB's."""
    said = error.args[0] if error.args else type(error).__name__
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def _check_regular(path: Path, name: str, about: os.stat_result) -> None:
    kind = "a symbolic link" if stat.S_ISLNK(about.st_mode) else "not a regular file"
    if stat.S_ISREG(about.st_mode):
        if about.st_nlink == 1:
            return
        kind = f"a file with {about.st_nlink} names (hard links)"
    raise CacheFileError(
        f"{path} was left as it is: {name} in it is {kind}, through which LevelDB could write elsewhere. If you trust "
        "it, copy the directory with cp -rL and give the copy."
    )


def _check_current(path: Path, directory: int) -> None:
    """Check CURRENT: it names the file that LevelDB opens first, which could be anywhere."""
    with _told(path), contextlib.suppress(FileNotFoundError), _file(path, directory, "CURRENT") as current:
        if not _CURRENT.fullmatch(os.read(current, _MOST_CURRENT)):
            raise CacheFileError(
                f"{path} was left as it is: CURRENT in it does not name a manifest of LevelDB. Restore it from a copy."
            )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    with _told(path):
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


@contextlib.contextmanager
def _file(path: Path, directory: int, name: str) -> Iterator[int]:
    """A file for reading. Links are not followed, and a FIFO does not block."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(name, flags, dir_fd=directory)
    try:
        _check_regular(path, name, os.fstat(file))
        yield file
    finally:
        os.close(file)


@contextlib.contextmanager
def _locked(path: Path, directory: int) -> Iterator[None]:
    """Hold LevelDB's own lock, shared: the files are not written while they are copied.

    This process must not have the LevelDB open itself: closing any descriptor of a file ends the locks that it has.
    """
    import fcntl  # where there is no such module, there is no LevelDB either

    with contextlib.ExitStack() as held:
        with _told(path), contextlib.suppress(FileNotFoundError):  # without it the LevelDB is not open
            lock = held.enter_context(_file(path, directory, "LOCK"))
            try:
                fcntl.lockf(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise in_use(path, "another process has it open") from error
        yield


def _copy(path: Path, directory: int, name: str, copy: Path) -> None:
    with _told(path), _file(path, directory, name) as source, (copy / name).open("xb") as target:
        left = os.fstat(source).st_size  # a growing file is copied up to here
        room = shutil.disk_usage(copy).free
        if left > room:
            raise CacheFileError(
                f"{path} was not read: reading works on a copy, and {name} needs {left:,} bytes where {copy.parent} "
                f"has {room:,}. Set TMPDIR to a directory with more room."
            )
        while left > 0 and (some := os.read(source, min(left, _AT_ONCE))):
            target.write(some)
            left -= len(some)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[str]:
    with _told(path):
        made = tempfile.mkdtemp(prefix="lm_deluge-")
    maker = os.getpid()
    try:
        yield made
    finally:
        if os.getpid() == maker:  # a forked child leaves it to its parent
            shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheFileError(f"The directory {path} cannot be read: {error}.") from error
