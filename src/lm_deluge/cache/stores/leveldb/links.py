"""Which entries refer to which blob, in a LevelDB. A blob is removed in the same batch as its last reference.

A batch is not visible to readers until it is written, so its own changes are remembered beside it.
"""

from collections.abc import Collection, Mapping
from typing import Any

from lm_deluge.cache.codec import compress
from lm_deluge.cache.entry import Blob

__all__ = ["BLOB", "LINK", "Links"]

BLOB = b"b"
_NAMES = b"n"
LINK = b"l"
_NAME_BYTES = 32


class Links:
    """The links that one batch changes."""

    def __init__(self, db: Any, batch: Any) -> None:
        self._db = db
        self._batch = batch
        self._added: set[bytes] = set()  # blobs that got a holder
        self._dropped: dict[bytes, set[bytes]] = {}  # former holders by blob

    def of(self, holder: bytes) -> tuple[bytes, ...]:
        """Names of the blobs that ``holder`` refers to."""
        names = self._db.get(_NAMES + holder) or b""
        return tuple(names[at : at + _NAME_BYTES] for at in range(0, len(names), _NAME_BYTES))

    def replace(self, holder: bytes, names: tuple[bytes, ...], blobs: Mapping[bytes, Blob]) -> None:
        """Make ``holder`` refer to exactly ``names``, and store the blobs that are new."""
        before = self.of(holder)
        if names == before:
            return
        if names:
            self._batch.put(_NAMES + holder, b"".join(names))
        else:
            self._batch.delete(_NAMES + holder)
        for name in names:
            self._add(name, holder, blobs)
        for name in set(before).difference(names):
            self._drop(name, holder)

    def remove_orphans(self) -> None:
        """Remove the blobs that are not referred to once the batch is written. To be called after all changes."""
        waiting = list(self._dropped)
        gone: set[bytes] = set()
        while waiting:
            name = waiting.pop()
            if name in gone or name in self._added or self._is_linked(name, but=self._dropped[name]):
                continue
            gone.add(name)
            self._batch.delete(BLOB + name)
            refers = self.of(name)
            if refers:
                self._batch.delete(_NAMES + name)
            for below in refers:
                self._drop(below, name)
                waiting.append(below)

    def _add(self, name: bytes, holder: bytes, blobs: Mapping[bytes, Blob]) -> None:
        waiting = [(name, holder)]
        while waiting:
            name, holder = waiting.pop()
            blob = blobs.get(name)
            if blob is not None and name not in self._added and not self._is_linked(name):
                self._batch.put(BLOB + name, compress(blob.data))
                if blob.refers:
                    self._batch.put(_NAMES + name, b"".join(blob.refers))
                    waiting.extend((below, name) for below in blob.refers)
            self._link(name, holder)

    def _link(self, name: bytes, holder: bytes) -> None:
        self._batch.put(LINK + name + holder, b"")
        self._added.add(name)

    def _drop(self, name: bytes, holder: bytes) -> None:
        self._batch.delete(LINK + name + holder)
        self._dropped.setdefault(name, set()).add(holder)

    def _is_linked(self, name: bytes, *, but: Collection[bytes] = ()) -> bool:
        """Whether any other holder referred to the blob before this batch."""
        with self._db.iterator(prefix=LINK + name, include_value=False) as links:
            return any(link[1 + _NAME_BYTES :] not in but for link in links)
