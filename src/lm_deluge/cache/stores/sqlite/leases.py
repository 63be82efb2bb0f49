"""Leases as rows: who fetches the answer of a key, and until when. Everything here expects a transaction."""

import sqlite3
from collections.abc import Sequence

from lm_deluge.cache._batched import batched
from lm_deluge.cache.stores.sqlite.walk import MAX_VARIABLES, execute_all, select_all

__all__ = ["acquire", "release", "renew"]


def acquire(writer: sqlite3.Connection, keys: Sequence[bytes], holder: bytes, now: float, expires: float) -> list[bool]:
    """Take leases that are free; for each key, whether ``holder`` has it now.

    One that ends later than two lifetimes from now has ended: none is taken for so long, so the clock was set back
    since, or a stranger wrote it. To SQLite, texts and blobs come after all numbers.
    """
    latest = now + 2 * (expires - now)
    writer.execute("DELETE FROM leases WHERE expires <= ?", (now,))  # there are never many rows
    for some in batched(keys, MAX_VARIABLES):
        values = ",".join(f"(?{number}, ?1, ?2)" for number in range(4, 4 + len(some)))
        writer.execute(
            f"INSERT INTO leases (key, holder, expires) VALUES {values} "  # noqa: S608
            "ON CONFLICT (key) DO UPDATE SET holder = excluded.holder, expires = excluded.expires "
            "WHERE holder = excluded.holder OR expires > ?3",
            (holder, expires, latest, *some),
        )
    return _has(writer, keys, holder)


def renew(writer: sqlite3.Connection, keys: Sequence[bytes], holder: bytes, now: float, expires: float) -> list[bool]:
    """Prolong leases; for each key, whether ``holder`` still had it."""
    writer.execute("DELETE FROM leases WHERE expires <= ?", (now,))
    execute_all(writer, "UPDATE leases SET expires = ?2 WHERE holder = ?1 AND key IN", keys, (holder, expires))
    return _has(writer, keys, holder)


def release(writer: sqlite3.Connection, keys: Sequence[bytes], holder: bytes) -> None:
    """Give leases back, if they are the holder's."""
    execute_all(writer, "DELETE FROM leases WHERE holder = ?1 AND key IN", keys, (holder,))


def _has(writer: sqlite3.Connection, keys: Sequence[bytes], holder: bytes) -> list[bool]:
    own = {key for (key,) in select_all(writer, "SELECT key FROM leases WHERE holder = ?1 AND key IN", keys, (holder,))}
    return [key in own for key in keys]
