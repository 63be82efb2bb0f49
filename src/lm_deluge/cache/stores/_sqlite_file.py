"""Looking at an SQLite file without opening it as one: is it ours, whole, and of a version that we know?

The offsets are those of SQLite's "Database File Format", section 1.3.
"""

import os
import struct
from pathlib import Path

from lm_deluge.errors import CacheFileError, CacheVersionError

__all__ = ["APPLICATION_ID", "FORMAT", "check_file", "create_private"]

APPLICATION_ID = 0x6C6D6431  # "lmd1"
FORMAT = 1
"""Version of the tables, kept in ``user_version``."""

_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100


def check_file(path: Path) -> None:
    """Refuse a file that is not a cache of ours, without touching it. A missing or empty file is fine.

    Raises:
        CacheFileError: it is something else, or it is cut short.
        CacheVersionError: a newer version of this package wrote it.
    """
    if path.is_dir():
        raise CacheFileError(f"{path} is a directory; SqliteCache needs a file.")
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return
    except OSError as error:
        raise CacheFileError(f"The cache file {path} cannot be read: {error}.") from error
    if not header:
        return
    if not header.startswith(_MAGIC[: len(header)]):
        raise CacheFileError(f"{path} is not an SQLite file. It was left as it is; give another path.")
    if len(header) < _HEADER_BYTES:
        raise CacheFileError(f"{path} is truncated: it has only {size} bytes. Restore it from a copy, or remove it.")
    _check_header(path, header, size)


def _check_header(path: Path, header: bytes, size: int) -> None:
    (raw_page_size,) = struct.unpack_from(">H", header, 16)
    page_size = 65536 if raw_page_size == 1 else raw_page_size
    change_counter, page_count = struct.unpack_from(">II", header, 24)
    (user_version,) = struct.unpack_from(">i", header, 60)
    (application_id,) = struct.unpack_from(">I", header, 68)
    (valid_for,) = struct.unpack_from(">I", header, 92)
    if application_id not in (0, APPLICATION_ID):
        raise CacheFileError(f"{path} is an SQLite file of another program. It was left as it is; give another path.")
    if application_id == APPLICATION_ID and user_version > FORMAT:
        raise CacheVersionError(
            f"{path} was written by a newer lm_deluge (format {user_version}; this one knows {FORMAT}). "
            "It was left as it is. Upgrade with: pip install -U lm_deluge"
        )
    # The page count in the header holds for the file's size only if the last writer kept it up to date.
    if change_counter == valid_for and size < page_count * page_size:
        raise CacheFileError(
            f"{path} is truncated: it has {size:,} of {page_count * page_size:,} bytes. "
            "It was left as it is. Restore it from a copy, or remove it."
        )
    if application_id == 0 and page_count > 0 and not Path(f"{path}-journal").exists():
        raise CacheFileError(
            f"{path} is an SQLite file that is not an lm_deluge cache. It was left as it is; give another path."
        )


def create_private(path: Path) -> None:
    """Make the file (0600) and its directory (0700) if they are missing.

    Raises:
        CacheFileError: they cannot be made.
    """
    try:
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise CacheFileError(f"The cache file {path} cannot be made or written: {error}.") from error
