"""What was used last, up to a number of bytes: a cache for things that many entries share."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from lm_deluge.cache.entry import ReadBlobs

__all__ = ["Recent", "remembering"]

MAX_BYTES = 32 * 1024 * 1024

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping that drops the least recently used values once all take more than ``MAX_BYTES``."""

    def __init__(self) -> None:
        self._bytes = 0
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value of a key, if it is still known."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Remember a value that takes about ``size`` bytes."""
        if (before := self._kept.pop(key, None)) is not None:
            self._bytes -= before[1]
        self._kept[key] = (value, size)
        self._bytes += size
        while self._bytes > MAX_BYTES and len(self._kept) > 1:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._bytes -= dropped


def remembering(read: ReadBlobs) -> ReadBlobs:
    """A store's ``read_blobs`` with a memory: what many entries share is read once."""
    recent: Recent[bytes, bytes] = Recent()

    def read_blobs(names: Sequence[bytes]) -> Mapping[bytes, bytes]:
        known = {name: data for name in names if (data := recent.get(name)) is not None}
        if missing := [name for name in names if name not in known]:
            for name, data in read(missing).items():
                recent.put(name, data, len(data))
                known[name] = data
        return known

    return read_blobs
