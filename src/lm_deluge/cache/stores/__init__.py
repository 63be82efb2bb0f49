"""Where entries are kept: a module or a package for each backend, and here what every store does, and some in addition.

Calls are synchronous, come from any thread, and may block. Stores see bytes and plain values only.
``lm_deluge.testing.StoreConformance`` checks all of this.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import msgspec

from lm_deluge.cache.entry import Entry, Quarantined, Stored
from lm_deluge.cache.runs import Run

__all__ = [
    "AwaitableStore",
    "BoundedStore",
    "ConditionalStore",
    "ConversationStore",
    "JournalStore",
    "LeaseStore",
    "RebuildReport",
    "RebuildableStore",
    "ScanStore",
    "Store",
]


class Store(Protocol):
    """Entries by key. A key has 48 bytes, or 32: see ``lm_deluge.canonical``.

    Attributes:
        blocks: whether calls wait for a disk or a network. If so, the engine makes them in worker threads.

    A store that blocks may have ``patience``: how many seconds a call may take without a sign that it goes on
    (``made_progress`` of ``_threads``) before a run gives it up and leaves the store alone for a while; 30 where
    it has none. None is for a store on this machine, which is always waited for.
    """

    blocks: ClassVar[bool]

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The stored value of each key, in order; None where there is none, empty bytes where one cannot be read.

        Raises:
            CacheError: the store cannot be asked.
        """
        ...

    def put_many(self, entries: Sequence[Entry]) -> None:
        """Store all entries, replacing those with the same keys. They are safe when this returns.

        Raises:
            CacheFileError: the store cannot be written at all; trying each entry by itself would not help.
        """
        ...

    def quarantine(self, key: bytes, value: object, reason: str) -> bool:
        """Take an entry out of service, keeping its bytes where the store can; whether it was there.

        Args:
            key: of the entry.
            value: what was found there. If there is something else by now, it is left alone.
            reason: what is wrong with it.
        """
        ...

    def delete(self, key: bytes) -> bool:
        """Remove an entry; whether there was one."""
        ...

    def close(self) -> None:
        """Release what the store holds. Closing twice is fine."""
        ...

    @property
    def location(self) -> str:
        """Where the entries are, for messages: a path, for example. Never holds a credential."""
        ...


@runtime_checkable
class ConditionalStore(Protocol):
    """A store that can store an entry only if its key has not changed since it was looked up."""

    def put_if_unchanged(self, entries: Sequence[Entry], found: Sequence[bytes | None]) -> list[bool]:
        """``put_many`` of the entries under whose keys is still what was found there; for each, whether it was stored.

        Comparison and storing are one step: no other program's write comes between them.

        Args:
            entries: with different keys.
            found: what ``get_many`` gave for each of their keys.

        Raises:
            CacheFileError: as in ``put_many``.
        """
        ...


@runtime_checkable
class ConversationStore(Protocol):
    """A store that finds all answers to a conversation: the entries whose keys begin with the conversation's.

    A cache over any other store keeps one answer to a conversation, or with ``scope="request"`` one to a request.
    """

    def find_many(
        self, conversations: Sequence[bytes], own: Sequence[Sequence[bytes]]
    ) -> list[list[tuple[bytes, bytes]]]:
        """Keys and values of the entries of each conversation, in order: at most 8 of each.

        Those that are preferred come first, then the others, the newest first; those of which the store does not know
        the time come last. A value that cannot be read is empty.

        Args:
            conversations: keys of conversations, 32 bytes each.
            own: for each, the keys of entries that are preferred, the best first. They begin with the conversation's.

        Raises:
            CacheError: the store cannot be asked.
        """
        ...


@runtime_checkable
class LeaseStore(Protocol):
    """A store that can say who is fetching the answer of a key, to all who share it.

    A lease is a promise with an end: the holder renews it while the call is in flight, and if the holder dies
    it runs out. Leases are no entries: they may exist for keys without one.
    """

    def acquire(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        """For each key, whether ``holder`` has its lease now. One that it has already is renewed.

        Args:
            keys: of the entries to be fetched.
            holder: a name that no other holder has.
            now: seconds since the Unix epoch. Stores with a clock of their own do not use it.
            seconds: until the lease runs out.
        """
        ...

    def renew(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        """Prolong leases; False for each that ``holder`` does not have (any more)."""
        ...

    def release(self, keys: Sequence[bytes], holder: bytes) -> None:
        """Give leases back. Those of other holders are left alone."""
        ...


@runtime_checkable
class ScanStore(Protocol):
    """A store that can say what it holds, for housekeeping, explaining and moving data."""

    def scan(self, *, namespace: str | None = None, newest_first: bool = False, batch: int = 256) -> Iterator[Stored]:
        """All entries, or those of a namespace, without holding up writers. Those stored meanwhile may be missing.

        Args:
            namespace: only its entries.
            newest_first: the last stored ones first; otherwise in any order.
            batch: how many to read at once.
        """
        ...

    def read(self, keys: Sequence[bytes]) -> list[Stored | None]:
        """Whole entries, in order; None where there is none."""
        ...

    def read_blobs(self, names: Sequence[bytes]) -> dict[bytes, bytes]:
        """Blobs by their SHA-256, not compressed; those that are missing or cannot be read are left out."""
        ...

    def delete_many(self, keys: Sequence[bytes]) -> int:
        """Remove entries, and blobs that are no longer referred to; how many entries there were."""
        ...

    def quarantined(self) -> Iterator[Quarantined]:
        """What was taken out of service, the oldest first."""
        ...

    def delete_quarantined(self, keys: Sequence[bytes]) -> int:
        """Remove for good all that was quarantined under some keys, and blobs that are no longer referred to; how much
        there was. Entries in service stay."""
        ...

    def usage(self) -> Mapping[str, int]:
        """How much there is: ``entries``, ``blobs``, ``quarantined`` and ``bytes``; ``on_disk`` is 1 where they are on
        a disk, and 0 where they are in the memory of this process or of a server."""
        ...

    def verify(self) -> Iterator[str]:
        """Everything that is wrong with the store itself, in words: damaged pages, missing blobs. Nothing if all is
        well. Values are not decoded here."""
        ...


@runtime_checkable
class BoundedStore(Protocol):
    """A store that keeps below a size by removing the least recently used entries, in small batches."""

    def limit(self, max_bytes: int) -> None:
        """Keep below ``max_bytes`` from now on: after each ``put_many``, remove what was used longest ago.

        What is written and not yet in its place, such as SQLite's write-ahead log, is not counted.
        """
        ...

    def touch(self, keys: Sequence[bytes], *, now: float) -> None:
        """Entries were served. Cheap; it is written with the next ``put_many`` or ``close``."""
        ...


@runtime_checkable
class JournalStore(Protocol):
    """A store that keeps the accounts of runs."""

    def record_run(self, run: Run) -> None:
        """Store a run, replacing the one with the same id."""
        ...

    def runs(self) -> Iterator[Run]:
        """All runs, the newest first."""
        ...


class RebuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a damaged file.

    Attributes:
        entries: how many could be read, and are in the new file.
        lost: at least how many could not. There may have been more of which nothing was left to count.
        kept: path of the old file.
        kept_bytes: its size.
    """

    entries: int
    lost: int
    kept: str
    kept_bytes: int


@runtime_checkable
class RebuildableStore(Protocol):
    """A store in a file that can be made again from all that can be read of it, even where it cannot be opened."""

    @classmethod
    def rebuild_file(cls, path: str | Path) -> RebuildReport:
        """Put a new file in the place of a damaged one, which is kept.

        Raises:
            CacheError: the file is no cache, is in use, or is too damaged to be read at all. Nothing has changed.
        """
        ...


@runtime_checkable
class AwaitableStore(Protocol):
    """A store over an object that may offer awaitable methods; None where it does not."""

    async_get: Any
    async_put: Any

    async def fetch(self, key: bytes) -> Any:
        """The value of one key, off the event loop."""
        ...

    async def store(self, entry: Entry) -> None:
        """Store one entry, off the event loop."""
        ...

    async def quarantine_async(self, key: bytes, value: object, reason: str) -> bool:
        """``quarantine`` off the event loop."""
        ...
