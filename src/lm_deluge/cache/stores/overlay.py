"""A file of one's own over a base that is only read, such as a colleague's file or one that a team shares.

Answers of the base are served from there. New answers and all other changes go into the own file.
"""

from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import ClassVar

from lm_deluge.cache.entry import Entry, Quarantined, Stored
from lm_deluge.cache.stores._candidates import MOST
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import ConfigError

__all__ = ["OverlayStore"]


class OverlayStore:
    """Two SQLite files as one store. An entry of the base that is deleted or quarantined is hidden, and stays there.

    Args:
        own: takes all writes: entries, leases, accounts of runs, what is quarantined.
        base: is never written. Open it with ``read_only=True``, and first: then nothing is made where it is missing.

    Raises:
        ConfigError: both are one file. They are closed.
    """

    blocks: ClassVar[bool] = True
    patience: ClassVar[None] = None

    def __init__(self, own: SqliteStore, base: SqliteStore) -> None:
        if Path(own.location).samefile(base.location):
            own.close()
            base.close()
            raise ConfigError(f"{own.location} cannot lie over itself. Give another file as the base.")
        self._own = own
        self._base = base
        self.put_many = own.put_many
        self.acquire, self.renew, self.release = own.acquire, own.renew, own.release
        self.limit, self.touch = own.limit, own.touch  # the base does not count, and is never written
        self.record_run, self.runs = own.record_run, own.runs
        self.delete_quarantined = own.delete_quarantined  # so what is hidden stays hidden

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        values = self._own.get_many(keys)
        missing = [key for key, value in zip(keys, values, strict=True) if value is None]
        if not missing:
            return values
        found = {
            key: value for key, value in zip(missing, self._base.get_many(missing), strict=True) if value is not None
        }
        for key in self._own.hidden(list(found)) if found else ():
            del found[key]
        return [found.get(key) if value is None else value for key, value in zip(keys, values, strict=True)]

    def find_many(
        self, conversations: Sequence[bytes], own: Sequence[Sequence[bytes]]
    ) -> list[list[tuple[bytes, bytes]]]:
        """As the protocol says, but that what is in the own file comes before what is in the base."""
        above = self._own.find_many(conversations, own)
        # Also where the own file has something: that may be too old, or of a model that is not the caller's first.
        below = self._base.find_many(conversations, own)
        hidden = self._own.hidden([key for some in below for key, _ in some])
        return [
            _over(some, [one for one in others if one[0] not in hidden], preferred)
            for some, others, preferred in zip(above, below, own, strict=True)
        ]

    def put_if_unchanged(self, entries: Sequence[Entry], found: Sequence[bytes | None]) -> list[bool]:
        keys = [entry.key for entry in entries]
        own, shown = self._own.get_many(keys), self.get_many(keys)
        # Where an entry of the base was found, there is none in the own file.
        of_base = [mine is None and now == value for mine, now, value in zip(own, shown, found, strict=True)]
        wanted = [None if is_there else value for is_there, value in zip(of_base, found, strict=True)]
        return self._own.put_if_unchanged(entries, wanted)

    def quarantine(self, key: bytes, value: object, reason: str) -> bool:
        # Rejecting an answer is not meant to bring back an older one of the base.
        if self._own.quarantine(key, value, reason, hide=True):
            return True
        (entry,) = self._of_base([key])
        # An entry that the base cannot read has no bytes here either.
        if entry is None or entry.value != value or self._own.get_many([key]) != [None]:
            return False
        self._own.hide([entry], reason)
        return True

    def delete(self, key: bytes) -> bool:
        return self.delete_many([key]) > 0

    def close(self) -> None:
        self._own.close()
        self._base.close()

    @property
    def location(self) -> str:
        return self._own.location

    # ScanStore, over both

    def scan(self, *, namespace: str | None = None, newest_first: bool = False, batch: int = 256) -> Iterator[Stored]:
        """All entries: first the own ones, then those of the base that they do not replace and that are not hidden."""
        yield from self._own.scan(namespace=namespace, newest_first=newest_first, batch=batch)
        waiting: list[Stored] = []
        for entry in self._base.scan(namespace=namespace, newest_first=newest_first, batch=batch):
            waiting.append(entry)
            if len(waiting) == batch:
                yield from self._shown(waiting)
                waiting = []
        yield from self._shown(waiting)

    def read(self, keys: Sequence[bytes]) -> list[Stored | None]:
        own = self._own.read(keys)
        missing = [key for key, entry in zip(keys, own, strict=True) if entry is None]
        of_base = dict(zip(missing, self._of_base(missing), strict=True)) if missing else {}
        return [of_base.get(key) if entry is None else entry for key, entry in zip(keys, own, strict=True)]

    def read_blobs(self, names: Sequence[bytes]) -> dict[bytes, bytes]:
        own = self._own.read_blobs(names)
        missing = [name for name in names if name not in own]
        return own | (self._base.read_blobs(missing) if missing else {})

    def delete_many(self, keys: Sequence[bytes]) -> int:
        found = sum(entry is not None for entry in self.read(list(dict.fromkeys(keys))))
        self._own.hide([entry for entry in self._of_base(keys) if entry is not None])
        self._own.delete_many(keys)
        return found

    def quarantined(self) -> Iterator[Quarantined]:
        return merge(self._own.quarantined(), self._base.quarantined(), key=lambda quarantined: quarantined.when)

    def usage(self) -> Mapping[str, int]:
        """The sum of both files. What is in both counts twice."""
        own, base = self._own.usage(), self._base.usage()
        return {**{name: own[name] + base[name] for name in own}, "on_disk": 1}

    def verify(self) -> Iterator[str]:
        return chain(self._own.verify(), self._base.verify())

    def _of_base(self, keys: Sequence[bytes]) -> list[Stored | None]:
        """The entries of the base that are not hidden."""
        hidden = self._own.hidden(keys)
        return [None if key in hidden else entry for key, entry in zip(keys, self._base.read(keys), strict=True)]

    def _shown(self, of_base: Sequence[Stored]) -> Iterator[Stored]:
        keys = [entry.key for entry in of_base]
        hidden = self._own.hidden(keys)
        own = self._own.get_many(keys)
        for entry, value in zip(of_base, own, strict=True):
            if value is None and entry.key not in hidden:
                yield entry


def _over(
    above: Sequence[tuple[bytes, bytes]], below: Sequence[tuple[bytes, bytes]], own: Sequence[bytes]
) -> list[tuple[bytes, bytes]]:
    """The entries of a conversation in two files, those of the first one in place of the same ones in the other."""
    values = {**dict(below), **dict(above)}
    order = dict.fromkeys([*own, *(key for key, _ in above), *values])
    return [(key, values[key]) for key in order if key in values][:MOST]
