"""Requests and tokens per minute as token buckets, pauses, and whether a provider answers at all. Pure: time is an
argument."""

import random
import threading

from lm_deluge._locks import renewed
from lm_deluge.errors import ConfigError, UnavailableError
from lm_deluge.schedule.health import Health
from lm_deluge.text import duration

__all__ = ["Limits"]


class _Bucket:
    """Holds up to one minute's worth and refills evenly, as providers' own limits do."""

    __slots__ = ("_level", "_updated", "capacity")

    def __init__(self, per_minute: float) -> None:
        self.capacity = per_minute
        self._level = per_minute
        self._updated: float | None = None

    def wait(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` is there; 0 when it is."""
        if self._updated is not None:
            self._level = min(self.capacity, self._level + (now - self._updated) * self.capacity / 60)
        self._updated = now
        missing = min(amount, self.capacity) - self._level
        # Rounding may leave a hair's breadth that no amount of waiting fills.
        return missing * 60 / self.capacity if missing > 1e-6 * self.capacity else 0.0

    def take(self, amount: float) -> None:
        self._level -= amount

    def give_back(self, amount: float) -> None:
        # Never further down than a minute's worth: a provider that reports absurd usage must not stop a client.
        self._level = max(-self.capacity, min(self.capacity, self._level + amount))


class Limits:
    """What one client may ask for. Shared by all of its runs, in all threads.

    Args:
        requests_per_minute: calls that may start in a minute, after a first minute's worth at once.
        tokens_per_minute: prompt and generated tokens in a minute. They are estimated when a call starts and
            corrected when its answer says what they were.
        give_up_after: seconds without a single answer after which a model is not asked any more; None for never.

    Raises:
        ConfigError: a limit below 1.
    """

    def __init__(
        self, *, requests_per_minute: float, tokens_per_minute: float, give_up_after: float | None = None
    ) -> None:
        for name, value in (
            ("max_requests_per_minute", requests_per_minute),
            ("max_tokens_per_minute", tokens_per_minute),
        ):
            if not value >= 1:
                raise ConfigError(f"{name} is {value!r}, which lets nothing through; at least 1 is needed.")
        self._lock = renewed(threading.Lock())
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self._requests = _Bucket(requests_per_minute)
        self._tokens = _Bucket(tokens_per_minute)
        self._paused_until: dict[str, float] = {}
        self._give_up_after = give_up_after
        self._health: dict[str, Health] = {}

    def calls_per_minute(self, tokens: float) -> float:
        """How many calls of so many tokens can start in a minute at most."""
        return min(self.requests_per_minute, self.tokens_per_minute / max(1, tokens))

    def acquire(self, model: str, tokens: float, now: float) -> float:
        """Take a call's share and return 0, or take nothing and return the seconds after which to ask again."""
        with self._lock:
            paused = self._paused_until.get(model, 0.0) - now if self._paused_until else 0.0
            health = self._health.get(model)
            if health is not None:
                paused = max(paused, health.wait(now))
            wait = max(self._requests.wait(1, now), self._tokens.wait(tokens, now), paused)
            if wait <= 0.0:
                if health is not None:
                    health.started(now)
                self._requests.take(1)
                self._tokens.take(tokens)
                return 0.0
            return wait

    def delay(self, tokens: float, now: float) -> float:
        """Seconds until another call of so many tokens may start, not counting pauses. Takes nothing."""
        with self._lock:
            return max(self._requests.wait(1, now), self._tokens.wait(tokens, now))

    def settle(self, reserved: float, used: float) -> None:
        """Correct a call's share once its real tokens are known."""
        with self._lock:
            self._tokens.give_back(reserved - used)

    def give_back(self, tokens: float) -> None:
        """Return the share of a call that was not made after all."""
        with self._lock:
            self._requests.give_back(1)
            self._tokens.give_back(tokens)

    def pause(self, model: str, seconds: float, now: float) -> bool:
        """Let no call to ``model`` start for ``seconds``. Returns whether that is longer than what was in force."""
        with self._lock:
            until = now + seconds
            if until <= self._paused_until.get(model, 0.0):
                return False
            self._paused_until[model] = until
            return True

    def paused_for(self, model: str, now: float) -> float:
        """Seconds for which ``model`` is still paused; 0 when it is not."""
        with self._lock:
            health = self._health.get(model)
            waits = 0.0 if health is None else health.wait(now)
            return max(0.0, self._paused_until.get(model, 0.0) - now, waits)

    def answered(self, model: str) -> None:
        """An answer of ``model`` has come."""
        health = self._health.get(model)
        if health is not None and not health.is_well:
            with self._lock:
                health.answered()

    def failed(
        self,
        model: str,
        reason: str,
        *,
        sent: float,
        now: float,
        refused: bool,
        asked: float | None,
        rng: random.Random,
        lasts: bool = False,
    ) -> float | None:
        """A call to ``model`` failed, and that says nothing about its prompt. See ``Health.failed``.

        Returns:
            for how long no call to the model starts, if that is longer than before.
        """
        with self._lock:
            health = self._health.get(model)
            if health is None:
                health = self._health[model] = Health(give_up_after=self._give_up_after)
            seconds = health.failed(reason, sent=sent, now=now, refused=refused, asked=asked, rng=rng, lasts=lasts)
        return seconds if seconds is not None and self.pause(model, seconds, now) else None

    def gives_up_in(self, model: str, now: float) -> float:
        """Seconds after which ``model`` will not be asked any more, if no answer comes."""
        health = self._health.get(model)
        return float("inf") if health is None else health.gives_up_in(now)

    def check(self, model: str, now: float) -> None:
        """Raise if a model is given up, unless it is time for a probe.

        Raises:
            UnavailableError: it is.
        """
        health = self._health.get(model)
        if health is None:
            return
        with self._lock:
            if left := health.refused_for(now):
                raise UnavailableError(
                    f"{model} asks for a pause of {duration(health.asked)}, which is longer than give_up_after allows: "
                    f"{duration(self._give_up_after or 0.0)}. It says: {health.reason} This prompt was not asked. Run "
                    f"it again in {duration(left)}, or raise give_up_after to wait."
                )
            if health.is_given_up(now) and health.wait(now):
                raise UnavailableError(
                    f"No answer has come from {model} for {duration(health.silent_for(now))}: "
                    f"{health.failures:,} calls in a row failed, the last one with: {health.reason} This prompt was "
                    "not asked again. Run it again once that is mended; give_up_after is how long to go on trying."
                )

    def begin(self, now: float) -> None:
        """A run begins: models that were given up are asked again, unless they asked for a wait that is not over."""
        with self._lock:
            self._health = {model: health for model, health in self._health.items() if health.refused_for(now)}
