"""When entries were last served. It is remembered in memory, and written together with other changes.

A lookup must not wait for a writer, so it only leaves its keys here. Only a file with a size limit needs the exact
order of use. Elsewhere the day is enough, and most entries have been used today already.
"""

import threading
import warnings
from collections.abc import Sequence
from itertools import islice

from lm_deluge._per_process import PerProcess
from lm_deluge.cache.stores.sqlite import rows
from lm_deluge.cache.stores.sqlite.database import Database
from lm_deluge.errors import CacheError, CacheWarning

__all__ = ["Touches"]

_HELD = 65_536
_AT_ONCE = 512
_COARSE_SECONDS = 86_400.0


class Touches:
    """Keys of served entries and the times, until they are written; the last 65,536 of them."""

    def __init__(self, database: Database) -> None:
        self.within = _COARSE_SECONDS
        """Uses that are no more than this many seconds after the one that is written are not written themselves."""

        self._database = database
        self._held: dict[bytes, float] = {}
        self._warned = False
        self._turn = PerProcess(threading.Lock)

    def add(self, keys: Sequence[bytes], now: float) -> None:
        """Entries were served."""
        with self._turn.get():
            if not self.within:
                for key in keys:
                    self._held.pop(key, None)  # so that it moves to the end
            self._held.update(dict.fromkeys(keys, now))
            for key in list(islice(self._held, max(0, len(self._held) - _HELD))):
                del self._held[key]

    def write_some(self) -> int:
        """Write the next few; how many. A use that cannot be written is dropped, and nothing fails."""
        with self._turn.get():
            some = list(islice(self._held.items(), _AT_ONCE))
            for key, _ in some:
                del self._held[key]
        try:
            if some:
                self._write(some)
        except CacheError as error:
            if not self._warned:
                self._warned = True
                warnings.warn(f"When entries were last used could not be written: {error}", CacheWarning, stacklevel=3)
        return len(some)

    def write(self) -> None:
        """Write all of them, as ``write_some`` does."""
        while self.write_some():
            pass

    def flush(self) -> None:
        """Write all of them if that is possible."""
        database = self._database
        if self._held and not database.closed and not database.read_only and database.is_in_place:
            self.write()

    def close(self) -> None:
        """Write all of them if that is possible, and close the file."""
        try:
            self.flush()
        finally:
            self._database.close()

    def _write(self, some: Sequence[tuple[bytes, float]]) -> None:
        # Read first, so that no caller waits for the writer when there is nothing to write.
        with self._database.reading() as reader:
            due = rows.due_touches(reader, some, self.within)
        if due:
            with self._database.transaction(lasting=False) as writer:
                rows.touch(writer, due, self.within)
