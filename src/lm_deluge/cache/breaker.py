"""A circuit breaker: when a cache that fails is not called, and when it is tried again. It has no clock and no lock.

::

    closed      every call may be made
      | some failures at different moments, or one that took long
      v
    open        no call may be made, until a pause is over
      | the first that asks after the pause is the probe
      v
    half-open   no call but the probe may be made
      | it succeeds: closed          it fails: open again, for twice as long
"""

from typing import Literal

__all__ = ["Breaker", "Leave"]

_FAILURES = 3
_APART = 0.1
_PAUSE = 1.0
_LONGEST_PAUSE = 10.0

Leave = Literal["call", "probe"]
"""What may be done: one call among others, or the one on which it depends whether there will be others."""


class Breaker:
    """Callers ask for leave before a call and report its outcome. They hold a lock, and use one clock for all times.

    Attributes:
        state: ``"closed"``, ``"open"`` or ``"half-open"``.
        until: in the open state, when the probe may be made.
        since: when it was opened last.
    """

    __slots__ = ("_failures", "_last", "_pause", "since", "state", "until")

    def __init__(self) -> None:
        self.state: Literal["closed", "open", "half-open"] = "closed"
        self.until = 0.0
        self.since = float("-inf")
        self._failures = 0
        self._last = float("-inf")
        self._pause = _PAUSE

    def leave(self, now: float) -> Leave | None:
        """Leave for a call that is made now; None where there is none."""
        if self.state == "closed":
            return "call"
        if self.state == "open" and now >= self.until:
            self.state = "half-open"
            return "probe"
        return None

    def hasten(self, now: float) -> None:
        """Allow the probe now, unless the breaker was opened a moment ago."""
        if self.state == "open" and now - self.since >= _PAUSE:
            self.until = min(self.until, now)

    def succeeded(self, leave: Leave) -> None:
        """A call succeeded. One that began before the last failures does not close the breaker."""
        if leave == "probe":
            self.state = "closed"
            self._pause = _PAUSE
        if self.state == "closed":
            self._failures = 0

    def failed(self, leave: Leave, now: float, *, at_once: bool = False) -> None:
        """A call failed.

        Args:
            leave: with which it was made.
            now: the time.
            at_once: whether one such failure is enough, because each takes so long.
        """
        if leave == "probe":
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        elif self.state != "closed":
            return
        else:
            if now - self._last >= _APART:  # concurrent calls fail together
                self._failures += 1
                self._last = now
            if self._failures < _FAILURES and not at_once:
                return
        self.state = "open"
        self.since = now
        self.until = now + self._pause
