"""The state behind every style: events are added up here, and rates are taken from here."""

import math
from collections import deque

from lm_deluge._clock import Clock
from lm_deluge.events import AnswerReceived, CoolDown, Event, HitsServed, RetryScheduled, RunReport, RunStarted
from lm_deluge.progress.summary import paid
from lm_deluge.text import counted, money, rate

__all__ = ["Tally"]

_WINDOW = 30
"""Seconds that the rate looks back: long enough to be steady, short enough to forget the hits at the start."""


class Tally:
    """What a run did so far. ``add`` is the hot path: a few additions and a reading of the clock.

    Attributes:
        total: number of prompts, or None while it is not known.
        report: the run's own account, once it is over.
    """

    def __init__(self, clock: Clock, *, summary: bool = True) -> None:
        self._clock = clock
        self.summary = summary
        self.total: int | None = None
        self.started = False
        self.done = self.hits = self.errors = self.retries = self.unpriced = 0
        self.cost = self.cost_avoided = 0.0
        self.report: RunReport | None = None
        self._pause: tuple[float, CoolDown] | None = None
        self._samples: deque[tuple[float, int]] = deque([(clock.monotonic(), 0)], maxlen=_WINDOW)

    def add(self, event: Event) -> None:
        """Take an event in."""
        match event:
            case HitsServed():
                self.done += event.count
                self.hits += event.count
                self.cost_avoided += event.cost_avoided
            case AnswerReceived():
                self.done += 1
                if event.error is not None:
                    self.errors += 1
                elif event.cost is None:
                    self.unpriced += 1
                self.cost += event.cost or 0.0
            case RetryScheduled():
                self.retries += 1
                return
            case CoolDown():
                until = self._clock.monotonic() + event.seconds
                if self._pause is None or until > self._pause[0]:
                    self._pause = (until, event)
                return
            case RunStarted():
                self.total = event.total
                self.started = True
                self._samples[0] = (self._clock.monotonic(), 0)
                return
            case _:
                self.report = event.report
                return
        now = self._clock.monotonic()
        if now - self._samples[-1][0] >= 1:
            self._samples.append((now, self.done))

    @property
    def per_second(self) -> float:
        """Prompts done a second, lately."""
        since, before = self._samples[0]
        elapsed = self._clock.monotonic() - since
        return (self.done - before) / elapsed if elapsed > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds until the last prompt is done at the present rate; None where that cannot be told, or all are."""
        speed = self.per_second
        left = 0 if self.total is None else self.total - self.done
        return left / speed if left and speed else None

    @property
    def pause(self) -> str | None:
        """Why nothing starts just now, or None."""
        if self._pause is None:
            return None
        until, asked = self._pause
        left = until - self._clock.monotonic()
        return None if left <= 0 else f"pausing {math.ceil(left)} s: {asked.model} asked for it ({asked.reason})"

    @property
    def position(self) -> str:
        """``120/1,000``, or ``120`` while the total is not known."""
        return f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}"

    def facts(self) -> list[str]:
        """What there is to tell beside the position, the most important first; what did not happen is left out."""
        told = [
            counted(self.errors, "error") if self.errors else "",
            f"{money(self.cost)} paid" if self.cost else "",
            f"{money(self.cost_avoided)} avoided" if self.cost_avoided else "",
            counted(self.hits, "hit") if self.hits else "",
            counted(self.retries, "retry", "retries") if self.retries else "",
            f"{self.unpriced:,} of unknown price" if self.unpriced else "",
        ]
        return [fact for fact in told if fact]

    def line(self) -> str:
        """All of it as one plain line."""
        position = f"{self.position} prompt{'' if (self.total or self.done) == 1 else 's'}"
        hits = [counted(self.hits, "hit"), counted(self.errors, "error")]
        retries = [counted(self.retries, "retry", "retries")] if self.retries else []
        money_ = [paid(self.cost, self.unpriced), f"{money(self.cost_avoided)} avoided"]
        pause = [self.pause] if self.pause else []
        return ", ".join([position, *hits, *retries, *money_, rate(self.per_second), *pause])
