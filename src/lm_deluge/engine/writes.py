"""Which writes to a provider's cache were for nothing, and what they cost.

A write costs more than plain input, so it pays only if somebody reads it. Two kinds never do: writing what another
request had written already, and writing what nobody of the run reads.
"""

from collections.abc import Sequence

import msgspec

from lm_deluge.models import Rates
from lm_deluge.prompt_cache import Prefix
from lm_deluge.usage import Usage

__all__ = ["Writes"]

_CAPACITY = 65_536


class _Written(msgspec.Struct, gc=False):
    """What is known of a prefix.

    Attributes:
        until: when its entry ends.
        surcharge: what its write cost more than plain input, as long as nobody is known to read it.
        is_written: whether a write is known.
        read_since: when the first of those was sent that read it.
    """

    until: float = 0.0
    surcharge: float = 0.0
    is_written: bool = False
    read_since: float = float("inf")


class Writes:
    """The writes of one run.

    Args:
        goes_on: whether later runs continue these prompts, so that what nobody reads now is read then.
    """

    def __init__(self, *, goes_on: bool) -> None:
        self._goes_on = goes_on
        self._written: dict[bytes, _Written] = {}
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
        again = self._written_again(prefixes, usage, started)
        if again:
            self._lost += rates.cost(usage) - rates.cost(_moved(usage, again, read=True))
        new = usage.cache_write_tokens - again
        surcharge = rates.cost(usage) - rates.cost(_moved(usage, new, read=False)) if new else 0.0
        shares = self._shares(prefixes, started)
        for prefix, share in zip(prefixes, shares, strict=True):
            known = self._written.pop(prefix.id, None)
            if known is not None and started >= known.until:
                self._lost += self._unread(known)
                known = None  # that entry has ended, and this is another
            if known is None:
                known = _Written(surcharge=surcharge * share)
            else:
                known.surcharge = 0.0  # a second request with the prefix is its reader
            known.until = max(known.until, started + prefix.seconds)
            if usage.cache_write_tokens:
                known.is_written = True
            else:
                known.read_since = min(known.read_since, started)
            self._written[prefix.id] = known
        while len(self._written) > _CAPACITY:
            self._lost += self._unread(self._written.pop(next(iter(self._written))))

    def lost(self) -> float:
        """US dollars that were paid for writes and brought nothing, as far as it can be told by now."""
        # Of one request alone nobody could have read.
        unread = sum(map(self._unread, self._written.values())) if self._requests > 1 else 0.0
        return self._lost + unread

    def _unread(self, written: _Written) -> float:
        return 0.0 if self._goes_on else max(written.surcharge, 0.0)

    def _shares(self, prefixes: Sequence[Prefix], started: float) -> list[float]:
        """What part of what is new belongs to each prefix: what it has beyond the one before."""
        sizes, before = [], 0
        for prefix in prefixes:
            known = self._written.get(prefix.id)
            sizes.append(0 if known is not None and started < known.until else prefix.tokens - before)
            before = prefix.tokens
        return [size / max(1, sum(sizes)) for size in sizes]

    def _is_there(self, prefix: Prefix, started: float) -> bool:
        known = self._written.get(prefix.id)
        # Answers come in any order. Who reads what this request wrote may be done before it, but was sent after it.
        return known is not None and started < known.until and (known.is_written or known.read_since < started)

    def _written_again(self, prefixes: Sequence[Prefix], usage: Usage, started: float) -> int:
        """How many tokens were written that were there, or about to be."""
        there = [each for each in prefixes if self._is_there(each, started)]
        if not there:
            return 0
        # Prefixes have estimated tokens, usage has real ones: the longest prefix is what was read and written.
        marked = usage.cache_read_tokens + usage.cache_write_tokens
        known = marked * there[-1].tokens // max(1, prefixes[-1].tokens)
        return max(0, min(usage.cache_write_tokens, known - usage.cache_read_tokens))


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
