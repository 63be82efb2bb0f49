"""Whether and when a failed call is made again."""

import random

import msgspec

__all__ = ["RetryPolicy", "backoff"]


def backoff(number: int, rng: random.Random, *, base: float = 1.0, longest: float = 30.0) -> float:
    """Seconds of the wait with a number, from 1: exponential, with jitter.

    Args:
        number: which wait it is.
        rng: jitter.
        base: the first wait is between half of it and all of it, and the range doubles each time.
        longest: no wait is longer.
    """
    span = min(longest, base * 2.0 ** min(number - 1, 30))
    return rng.uniform(span / 2, span)


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential backoff with jitter, and never sooner than the provider asks.

    Attributes:
        max_attempts: calls for one prompt, the first included.
        base: seconds; the first wait is between half of it and all of it, and the range doubles each time.
        longest: seconds; no wait of ours is longer.
        longest_asked: seconds; a provider that asks for more is not waited for. None bounds nothing; what providers ask
            for is bounded already, by ten minutes, where their headers are read.
    """

    max_attempts: int = 5
    base: float = 1.0
    longest: float = 30.0
    longest_asked: float | None = None

    def delay(self, attempt: int, *, retryable: bool, retry_after: float | None, rng: random.Random) -> float | None:
        """Seconds to wait before the next call, or None to give up.

        Args:
            attempt: how many calls were made, the failed one included.
            retryable: whether another call could end differently.
            retry_after: seconds that the provider asks for, if it does.
            rng: jitter.
        """
        if not retryable or attempt >= self.max_attempts or self.asks_too_much(retry_after):
            return None
        # Not sooner than our own backoff: a clock that is off makes a date of the past, which asks for no wait at all.
        return max(retry_after or 0.0, backoff(attempt, rng, base=self.base, longest=self.longest))

    def asks_too_much(self, retry_after: float | None) -> bool:
        """Whether a provider asks for more than is waited for it."""
        return retry_after is not None and self.longest_asked is not None and retry_after > self.longest_asked
