"""Which writes to a provider's cache were for nothing, and what they cost.

A write costs more than plain input, so it pays only if somebody reads it. Two kinds never do: writing what another
request had written already, and writing what nobody of the run reads.
"""

import threading
from collections.abc import Sequence

import msgspec

from lm_deluge.models import Rates
from lm_deluge.prompt_cache import Prefix
from lm_deluge.usage import Usage

__all__ = ["WriteLog", "Writes"]

_CAPACITY = 65_536


class _Entry(msgspec.Struct, gc=False):
    """What is known of an entry of the provider's cache.

    Attributes:
        until: when it ends.
        is_written: whether a write of it is known.
        read_since: when the first of those was sent that read it.
        is_shared: whether a second request had its prefix.
    """

    until: float = 0.0
    is_written: bool = False
    read_since: float = float("inf")
    is_shared: bool = False


class WriteLog:
    """The entries that a client's requests wrote and read. Shared by its runs, in all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[bytes, _Entry] = {}

    def __len__(self) -> int:
        """Entries that are known."""
        return len(self._entries)

    def add(self, prefixes: Sequence[Prefix], usage: Usage, started: float) -> tuple[int, dict[bytes, float]]:
        """Take in an answer. Returns how many of its written tokens were there, and which prefixes are new.

        Of the new ones, each with its part of what they have together.
        """
        with self._lock:
            again = self._written_again(prefixes, usage, started)
            sizes: dict[bytes, int] = {}
            before = 0
            for prefix in prefixes:
                entry = self._entries.pop(prefix.id, None)
                if entry is None or started >= entry.until:  # one that has ended is another
                    entry = _Entry()
                    sizes[prefix.id] = prefix.tokens - before
                else:
                    entry.is_shared = True
                before = prefix.tokens
                entry.until = max(entry.until, started + prefix.seconds)
                if _reaches(prefix, prefixes[-1], usage) > usage.cache_read_tokens:
                    entry.is_written = True
                else:
                    entry.read_since = min(entry.read_since, started)
                self._entries[prefix.id] = entry
            while len(self._entries) > _CAPACITY:
                del self._entries[next(iter(self._entries))]
        return again, {id: size / max(1, sum(sizes.values())) for id, size in sizes.items()}

    def is_shared(self, id: bytes) -> bool:
        """Whether a second request had a prefix while its entry was alive."""
        entry = self._entries.get(id)
        return entry is not None and entry.is_shared

    def _written_again(self, prefixes: Sequence[Prefix], usage: Usage, started: float) -> int:
        """How many tokens were written that were there, or about to be."""
        there = [each for each in prefixes if self._is_there(each, started)]
        if not there:
            return 0
        known = _reaches(there[-1], prefixes[-1], usage)
        return max(0, min(usage.cache_write_tokens, known - usage.cache_read_tokens))

    def _is_there(self, prefix: Prefix, started: float) -> bool:
        entry = self._entries.get(prefix.id)
        # Answers come in any order. Who reads what this request wrote may be done before it, but was sent after it.
        return entry is not None and started < entry.until and (entry.is_written or entry.read_since < started)


def _reaches(prefix: Prefix, longest: Prefix, usage: Usage) -> int:
    """About how many of the tokens that were read and written belong to a prefix.

    Prefixes have estimated tokens, usage has real ones: the longest prefix is what was read and written.
    """
    marked = usage.cache_read_tokens + usage.cache_write_tokens
    return marked * prefix.tokens // max(1, longest.tokens)


class Writes:
    """What the writes of one run lost.

    Args:
        log: the client's.
        goes_on: whether later runs continue these prompts, so that what nobody reads now is read then.
    """

    def __init__(self, log: WriteLog, *, goes_on: bool) -> None:
        self._log = log
        self._goes_on = goes_on
        self._surcharges: dict[bytes, float] = {}  # dollars that a write cost more than plain input, by its prefix
        self._requests = 0
        self._lost = 0.0

    def add(self, prefixes: Sequence[Prefix], usage: Usage, rates: Rates, *, started: float) -> None:
        """Take in an answer.

        Args:
            prefixes: what its request had marked, the shortest first.
            usage: its tokens.
            rates: its prices.
            started: when it was sent, on the monotonic clock.
        """
        if not prefixes or not (usage.cache_write_tokens or usage.cache_read_tokens):
            return
        self._requests += 1
        again, shares = self._log.add(prefixes, usage, started)
        for prefix in prefixes:
            if prefix.id not in shares:
                self._surcharges.pop(prefix.id, None)  # somebody reads it
        if again:
            self._lost += rates.cost(usage) - rates.cost(_moved(usage, again, read=True))
        new = usage.cache_write_tokens - again
        if self._goes_on or not new:
            return
        surcharge = rates.cost(usage) - rates.cost(_moved(usage, new, read=False))
        for id, share in shares.items():
            if id in self._surcharges:
                self._lost += self._unread(id)  # an entry that has ended
            self._surcharges[id] = surcharge * share
        while len(self._surcharges) > _CAPACITY:
            self._lost += self._unread(next(iter(self._surcharges)))

    def lost(self) -> float:
        """US dollars that were paid for writes and brought nothing, as far as it can be told by now."""
        if self._requests < 2:  # of one request alone nobody could have read
            return self._lost
        return self._lost + sum(each for id, each in self._surcharges.items() if not self._log.is_shared(id))

    def _unread(self, id: bytes) -> float:
        surcharge = self._surcharges.pop(id)
        return 0.0 if self._log.is_shared(id) else surcharge


def _moved(usage: Usage, tokens: int, *, read: bool) -> Usage:
    """The same usage, had so many of its written tokens been read, or been plain input."""
    for_an_hour = min(usage.cache_write_1h_tokens, usage.cache_write_tokens - tokens)
    return msgspec.structs.replace(
        usage,
        cache_write_tokens=usage.cache_write_tokens - tokens,
        cache_write_1h_tokens=for_an_hour,
        cache_read_tokens=usage.cache_read_tokens + tokens * read,
        input_tokens=usage.input_tokens + tokens * (not read),
    )
