"""What the emulator counts, and the rate limits it shows."""

import time

import msgspec

from lm_deluge._clock import Clock
from lm_deluge.testing.bill import Charge

__all__ = ["Limits", "Stats"]


class Stats(msgspec.Struct):
    """Counters since the start or the last reset.

    Attributes:
        calls: generation requests received, refused ones included.
        count_calls: token counting requests received.
        in_flight, max_in_flight: generation requests being answered: now, and at most.
        input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens: prompt tokens, disjoint.
        output_tokens: generated tokens.
        cache_reads, cache_writes: requests that read from, or wrote to, the simulated prompt cache.
        statuses: requests by the HTTP status answered; 0 counts those that got no answer.
    """

    calls: int = 0
    count_calls: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    cache_reads: int = 0
    cache_writes: int = 0
    statuses: dict[int, int] = {}

    def add(self, charge: Charge) -> None:
        """Count one generation."""
        self.input_tokens += charge.uncached
        self.cache_read_tokens += charge.read
        self.cache_write_5m_tokens += charge.write_5m
        self.cache_write_1h_tokens += charge.write_1h
        self.cache_reads += charge.read > 0
        self.cache_writes += charge.write_5m + charge.write_1h > 0
        self.output_tokens += charge.output


class Limits:
    """The rate limits as headers show them.

    Attributes:
        requests_used: requests taken from the current window; the app sets it to those in flight.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = -1
        self._text = b""
        self.requests_used = 0

    @property
    def reset_rfc3339(self) -> bytes:
        second = int(self._clock.time())
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second + 1)).encode()
        return self._text
