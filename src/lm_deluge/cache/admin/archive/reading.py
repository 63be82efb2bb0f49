"""The lines of a bundle. The file may be hostile, so the length of a line and of the unpacked file are limited."""

import contextlib
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from lm_deluge.cache.admin.archive.bundle import FORMAT, MAX_LINE_BYTES, Header, open_line
from lm_deluge.cache.admin.reports import Cut
from lm_deluge.errors import CacheFileError, DamagedEntryError

__all__ = ["RawLine", "Source", "is_bundle", "lines_of"]

Source = str | os.PathLike[str] | IO[bytes]

_GZIP = b"\x1f\x8b"
_CHUNK = 1024 * 1024
_HEADER_BYTES = 4096
_FREE_BYTES = 256 * 1024 * 1024
_MOST_TIMES = 250  # a line has digests in it, which do not compress; real bundles shrink to a third or a tenth


class RawLine(msgspec.Struct, frozen=True):
    """One line.

    Attributes:
        number: from 1.
        data: without the newline; None for a line that is too long.
    """

    number: int
    data: bytes | None


def is_bundle(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins like a bundle, compressed or not."""
    if not Path(path).is_file():
        return False
    with contextlib.suppress(OSError, EOFError, zlib.error, DamagedEntryError), _opened(path) as (file, _):
        _, line = open_line(file.readline(_HEADER_BYTES).rstrip(b"\n"))
        return isinstance(line, Header) and line.format == FORMAT
    return False


def lines_of(source: Source, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[RawLine]:
    """The lines of a bundle.

    Args:
        source: a path, whose file may be compressed, or an open binary file, which may not.
        max_line_bytes: longer lines are skipped.

    Raises:
        CacheFileError: the file cannot be opened.
        Cut: it cannot be read to its end: cut short, damaged, or it unpacks to far more than any bundle does.
    """
    with _opened(source) as (file, packed):
        try:
            yield from _read(file, packed, max_line_bytes)
        except (OSError, EOFError, zlib.error) as error:
            raise Cut(f"the file cannot be read further: {error}") from error


def _read(file: IO[bytes], packed: IO[bytes] | None, max_line_bytes: int) -> Iterator[RawLine]:
    number = total = 0
    while line := file.readline(max_line_bytes + 1):
        number += 1
        total += len(line)
        _check_ratio(total, packed)
        if len(line) <= max_line_bytes or line.endswith(b"\n"):
            yield RawLine(number, line.removesuffix(b"\n"))
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(_CHUNK)
            total += len(line)
            _check_ratio(total, packed)
        yield RawLine(number, None)


def _check_ratio(total: int, packed: IO[bytes] | None) -> None:
    if packed is not None and total > _FREE_BYTES and total > _MOST_TIMES * packed.tell():
        raise Cut(f"the file unpacks to more than {_MOST_TIMES} times its size. If that is right, use gunzip first")


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[tuple[IO[bytes], IO[bytes] | None]]:
    """The unpacked file, and the packed one if it is."""
    if not isinstance(source, (str, os.PathLike)):
        yield source, None
        return
    path = Path(source).expanduser()
    try:
        plain = path.open("rb")
    except OSError as error:
        raise CacheFileError(f"{path} cannot be read: {error.strerror or error}.") from error
    with plain:
        if plain.peek(2)[:2] != _GZIP:
            yield plain, None
            return
        with gzip.GzipFile(fileobj=plain) as unpacked:
            yield io.BufferedReader(unpacked), plain
