"""The other process of the conformance suite: ``main(store)`` does what the command line says."""

import sys

from lm_deluge.cache.entry import Entry
from lm_deluge.cache.stores import LeaseStore, Store

__all__ = ["main", "numbered"]


def numbered(name: str, count: int) -> list[Entry]:
    """Entries that each process can make for itself."""
    return [
        Entry(key=f"{name}-{number}".encode().ljust(32, b"."), value=f"{name}-{number}".encode())
        for number in range(count)
    ]


def main(store: Store) -> None:
    """``put NAME COUNT``: store entries one by one. ``lease KEY NOW SECONDS``: take a lease, say so, and be killed."""
    command, *arguments = sys.argv[1:]
    if command == "put":
        for entry in numbered(arguments[0], int(arguments[1])):
            store.put_many([entry])
        store.close()
        return
    key, now, seconds = arguments
    if not isinstance(store, LeaseStore):
        raise TypeError(f"{type(store).__name__} has leases in one process and none in another")
    got = store.acquire([bytes.fromhex(key)], b"another process", now=float(now), seconds=float(seconds))
    sys.stdout.write(f"{got}\n")
    sys.stdout.flush()
    sys.stdin.read()
