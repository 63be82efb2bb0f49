"""Waiting for other users of an SQLite file. A wait gives way to a fork, which needs the connections closed."""

import contextlib
import random
import sqlite3
import time
from collections.abc import Callable, Iterator

__all__ = ["BUSY_SECONDS", "GivesWay", "transaction", "when_free"]

BUSY_SECONDS = 60.0
"""For which others are waited for."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 0.008


class GivesWay(Exception):
    """The wait was given up, and nothing was done, because a fork wants the connection."""


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """In a transaction that was begun; it is committed at the end."""
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # the disk may be gone; the first error is the one to report
            connection.execute("ROLLBACK")
        raise


def when_free(connection: sqlite3.Connection, statement: str, is_wanted: Callable[[], bool]) -> None:
    """Execute a statement once the lock that it needs is free.

    SQLite itself looks again after up to a tenth of a second, in which others take the lock many times over: among
    eight busy processes one waits for seconds. And where two switch to WAL at once, its waiting does not help at all.

    Raises:
        GivesWay: ``is_wanted`` says that a fork wants the connection.
        sqlite3.OperationalError: others have kept the lock for too long.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    pause = _SHORTEST_PAUSE
    while True:
        try:
            connection.execute(statement).fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        if is_wanted():
            raise GivesWay
        time.sleep(pause * random.random())
        pause = min(2 * pause, _LONGEST_PAUSE)
