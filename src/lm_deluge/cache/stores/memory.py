"""Entries in a dictionary of this process."""

from collections.abc import Sequence
from typing import ClassVar

from lm_deluge.cache.record import Entry

__all__ = ["MemoryStore"]


class MemoryStore:
    """A plain dictionary. Values are encoded bytes, so what a caller does to a response never reaches the cache."""

    blocks: ClassVar[bool] = False

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._values.get(key) for key in keys]

    def put_many(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._values[entry.key] = entry.value

    def set_aside(self, key: bytes, value: object, reason: str) -> None:
        if self._values.get(key) is value:
            del self._values[key]

    def delete(self, key: bytes) -> bool:
        return self._values.pop(key, None) is not None

    def close(self) -> None:
        self._values.clear()

    @property
    def location(self) -> str:
        return "memory"

    def __len__(self) -> int:
        return len(self._values)
