"""What every store does. All calls are synchronous, may come from any thread, and may block."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from lm_deluge.cache.record import Entry

__all__ = ["Store"]


class Store(Protocol):
    """Entries by key.

    Attributes:
        blocks: whether calls wait for a disk or a network. If so, the engine makes them in worker threads.
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

    def set_aside(self, key: bytes, value: object, reason: str) -> None:
        """Take a damaged entry out of service, keeping its bytes where the store can.

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
        """Where the entries are, for messages: a path, for example."""
        ...
