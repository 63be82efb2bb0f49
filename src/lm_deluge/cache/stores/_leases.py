"""Leases of one process, for stores that no other process shares."""

from collections.abc import Sequence

__all__ = ["Leases"]


class Leases:
    """Who fetches the answer of which key, and until when. Callers hold a lock."""

    def __init__(self) -> None:
        self._held: dict[bytes, tuple[bytes, float]] = {}

    def acquire(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        """For each key, whether ``holder`` has its lease now."""
        acquired = []
        for key in keys:
            owner, expires = self._held.get(key, (holder, now))
            # No lease is taken for two lifetimes: the clock was set back since.
            free = owner == holder or not now < expires <= now + 2 * seconds
            if free:
                self._held[key] = (holder, now + seconds)
            acquired.append(free)
        return acquired

    def renew(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        """Prolong leases; False for each that ``holder`` does not have or that has run out."""
        renewed = []
        for key in keys:
            owner, expires = self._held.get(key, (b"", now))
            held = owner == holder and expires > now
            if held:
                self._held[key] = (holder, now + seconds)
            renewed.append(held)
        return renewed

    def release(self, keys: Sequence[bytes], holder: bytes) -> None:
        """Give back those that ``holder`` has."""
        for key in keys:
            if key in self._held and self._held[key][0] == holder:
                del self._held[key]
