"""Making the tables of a file that was just opened, where it has none yet."""

from collections.abc import Callable
from pathlib import Path

from lm_deluge.cache.stores.sqlite.connection import Connection
from lm_deluge.cache.stores.sqlite.file import APPLICATION_ID, check_version, is_blank, read_pragma
from lm_deluge.cache.stores.sqlite.schema import FORMAT, KEEPS_SHRINKABLE, create
from lm_deluge.cache.stores.sqlite.waits import transaction, when_free
from lm_deluge.errors import CacheFileError

__all__ = ["is_ours", "prepare"]


def prepare(connection: Connection, path: Path, is_wanted: Callable[[], bool]) -> None:
    """Make the tables in a new file; refuse one that became another program's meanwhile.

    It happens before the switch to WAL, so the file itself says what it is from the moment that it has a table.

    Args:
        connection: writes the file.
        path: of the file, for messages.
        is_wanted: as in ``when_free``.

    Raises:
        CacheFileError: it is another program's.
        CacheVersionError: another version of this package made its tables.
    """
    if is_ours(connection, path):
        connection.look()
        return
    if is_blank(connection):
        connection.execute(KEEPS_SHRINKABLE)
    when_free(connection, "BEGIN IMMEDIATE", is_wanted)
    with transaction(connection):
        if is_ours(connection, path):
            return  # another process was faster
        if not is_blank(connection):
            raise CacheFileError(f"{path} is an SQLite file of another program. Give another path.")
        create(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")


def is_ours(connection: Connection, path: Path) -> bool:
    """Whether the file has our tables.

    Raises:
        CacheVersionError: another version of this package made them.
    """
    if read_pragma(connection, "application_id") != APPLICATION_ID:
        return False
    check_version(path, read_pragma(connection, "user_version"))
    return True
