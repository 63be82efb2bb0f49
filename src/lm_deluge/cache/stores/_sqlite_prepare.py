"""Bringing a file that was just opened to the current format: making its tables, or upgrading those of an older one."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lm_deluge.cache.record import refers_of, refers_of_blob
from lm_deluge.cache.stores._sqlite_connection import Connection
from lm_deluge.cache.stores._sqlite_file import APPLICATION_ID, check_version, is_blank, read_pragma
from lm_deluge.cache.stores._sqlite_schema import FORMAT, KEEPS_SHRINKABLE, Reference, create, references, upgrade
from lm_deluge.cache.stores._sqlite_waits import transaction, when_free
from lm_deluge.cache.stores._sqlite_walk import is_damage
from lm_deluge.errors import CacheFileError

__all__ = ["found_format", "prepare"]


def prepare(connection: Connection, path: Path, is_wanted: Callable[[], bool]) -> None:
    """Make the tables in a new file, bring old ones up to date; refuse a file that became somebody else's.

    It happens before the switch to WAL, so the file itself says what it is from the moment that it has a table.

    Args:
        connection: writes the file.
        path: of the file, for messages.
        is_wanted: as in ``when_free``.
    """
    found = found_format(connection, path)
    if found:
        connection.look()
    if found == FORMAT:
        return
    if found:
        _upgrade(connection, path, is_wanted)
        return
    if is_blank(connection):
        connection.execute(KEEPS_SHRINKABLE)
    with _begun(connection, is_wanted):
        if found_format(connection, path):
            return  # another process was faster
        if not is_blank(connection):
            raise CacheFileError(f"{path} is an SQLite file of another program. Give another path.")
        create(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")


def _upgrade(connection: Connection, path: Path, is_wanted: Callable[[], bool]) -> None:
    version = read_pragma(connection, "data_version")
    try:
        found = references(connection, refers_of, refers_of_blob)  # it takes long, so before anybody has to wait
    except sqlite3.OperationalError:
        if found_format(connection, path) == FORMAT:
            return  # another process was faster, and the tables are others now
        raise
    try:
        _write_upgrade(connection, path, is_wanted, found, version)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        # Pages that would have to change are damaged. Without references, blobs only stay longer than needed.
        _write_upgrade(connection, path, is_wanted, [], None)


def _write_upgrade(
    connection: Connection,
    path: Path,
    is_wanted: Callable[[], bool],
    found: Sequence[Reference],
    version: int | None,
) -> None:
    with _begun(connection, is_wanted):
        if found_format(connection, path) == FORMAT:
            return  # another process was faster
        if version not in (None, read_pragma(connection, "data_version")):
            found = references(connection, refers_of, refers_of_blob)  # somebody has written meanwhile
        with connection.after_one_look():
            upgrade(connection, found)
        connection.execute(f"PRAGMA user_version = {FORMAT}")


def found_format(connection: Connection, path: Path) -> int:
    """The version of our tables; 0 if there are none."""
    if read_pragma(connection, "application_id") != APPLICATION_ID:
        return 0
    found = read_pragma(connection, "user_version")
    check_version(path, found)
    return found


@contextlib.contextmanager
def _begun(connection: Connection, is_wanted: Callable[[], bool]) -> Iterator[None]:
    when_free(connection, "BEGIN IMMEDIATE", is_wanted)
    with transaction(connection):
        yield
