"""Whether a provider answers, and what to do while it does not. Pure: time is an argument.

==============  ==============================================  ====================================
state           begins with                                     what may start
==============  ==============================================  ====================================
well            an answer                                       everything
paused          a refusal (429, 503, 529), or many failures     nothing until the pause ends, then all
doubted         a second pause without an answer in between     after each pause one call, the probe
given up        ``give_up_after`` seconds without an answer     now and then one call, the probe
refused         a wait is asked for that is longer than that    nothing until that wait is over
==============  ==============================================  ====================================

A failure that asking again does not cure (a wrong key, no money) gives up at once when it comes many times in a row.

A provider that asks for a wait which ``give_up_after`` allows is given up after that wait at the earliest; what it asks
for later, without an answer in between, puts that off no more. A wait that is longer than ``give_up_after`` is told to
all prompts of the model at once; none of them waits for it.

Calls that were in flight when a pause began were sent before anybody knew; that they are refused too says nothing new,
and makes the pause no longer.
"""

import random

from lm_deluge.schedule.retry import backoff

__all__ = ["Health"]

_MANY = 16  # failures in a row: not bad luck any more
_PROBE_SECONDS = 30.0  # for which the others wait for a probe's outcome
_LOOK_SECONDS = 2.0  # between two looks of those who wait for one
_PROBES_AFTER = 15.0  # between two probes of a provider that was given up
_LEAST_FAILURES = 3


class Health:
    """How one model's provider has answered lately.

    Args:
        give_up_after: seconds without an answer after which nothing but probes is asked; None for never.
    """

    def __init__(self, *, give_up_after: float | None) -> None:
        self._give_up_after = float("inf") if give_up_after is None else give_up_after
        self.is_well = True
        self.failures = 0
        self.reason = ""
        self._since = 0.0  # when the first call was sent that failed without an answer after it
        self._paused_at = float("-inf")
        self._pauses = 0
        self._heeds_until = float("-inf")  # the end of the first pause that was asked for, and of a probe after it
        self._probe_until = float("-inf")
        self._next_probe = 0.0
        self._lasting = 0
        self._refused_until = float("-inf")
        self.asked = 0.0  # seconds, by the refusal that is in force

    def answered(self) -> None:
        """An answer has come, so that all is well."""
        self.is_well = True
        self.failures = self._pauses = self._lasting = 0
        self._probe_until = self._heeds_until = float("-inf")

    def failed(
        self,
        reason: str,
        *,
        sent: float,
        now: float,
        refused: bool,
        asked: float | None,
        rng: random.Random,
        lasts: bool = False,
    ) -> float | None:
        """A call failed, in a way that says nothing about its prompt. Returns for how long to pause, if at all.

        Args:
            reason: in words.
            sent: when the call was sent.
            now: seconds on a clock that only goes forward.
            refused: whether the provider asks for fewer calls.
            asked: seconds for which it asks to be left alone, if it does.
            rng: jitter.
            lasts: whether the next call will fail in the same way, whenever it is made.
        """
        self.reason = reason
        if asked is not None and asked > self._give_up_after:
            self._refused_until = max(self._refused_until, now + asked)
            self.asked = asked
            self.answered()  # when that wait is over, everything begins again
            return asked
        if self.is_well:
            self.is_well = False
            self._since = sent
        self.failures += 1
        if lasts:
            self._lasting += 1
            return None
        is_first_pause = not self._pauses or (self._pauses == 1 and sent < self._paused_at)
        if asked is not None and is_first_pause:
            self._heeds_until = max(self._heeds_until, now + asked + _PROBE_SECONDS)
        if sent < self._paused_at:
            return asked
        self._probe_until = float("-inf")
        if not refused and self.failures < _MANY:
            return asked
        self._pauses += 1
        self._paused_at = now
        return max(asked or 0.0, backoff(self._pauses, rng))

    def wait(self, now: float) -> float:
        """Seconds after which to ask again whether a call may start, not counting pauses; 0 if it may."""
        if self.refused_for(now):
            return self.refused_for(now)
        if self.is_well:
            return 0.0
        if self.is_given_up(now):
            return max(0.0, self._next_probe - now)
        if self._pauses > 1 and self._probe_until > now:
            return min(_LOOK_SECONDS, self._probe_until - now)
        return 0.0

    def started(self, now: float) -> None:
        """A call starts."""
        if not self.is_well and self._pauses > 1:
            self._probe_until = now + _PROBE_SECONDS
        if self.is_given_up(now):
            self._next_probe = now + _PROBES_AFTER

    def gives_up_in(self, now: float) -> float:
        """Seconds until nothing but probes is asked, unless an answer comes."""
        if self.refused_for(now):
            return 0.0
        if self.is_well:
            return float("inf")
        return max(0.0, max(self._since + self._give_up_after, self._heeds_until) - now)

    def is_given_up(self, now: float) -> bool:
        """Whether nothing but probes is asked, or nothing at all."""
        if self.refused_for(now):
            return True
        if self.is_well:
            return False
        return self._lasting >= _MANY or (self.failures >= _LEAST_FAILURES and not self.gives_up_in(now))

    def refused_for(self, now: float) -> float:
        """Seconds until a wait is over that was asked for and is longer than is waited for; 0 if there is none."""
        return max(0.0, self._refused_until - now)

    def silent_for(self, now: float) -> float:
        """Seconds since the first of the calls was sent that have failed without an answer after them."""
        return now - self._since
