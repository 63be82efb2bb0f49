"""Plain lines for logs: one every few seconds and one at the end."""

import sys

from lm_deluge._clock import Clock
from lm_deluge.events import Event
from lm_deluge.progress._tally import Tally
from lm_deluge.progress.line_breaks import wrapped
from lm_deluge.progress.summary import summary

__all__ = ["PlainProgress", "write_last_line"]


class PlainProgress:
    """Writes ``120/1,000 prompts, 80 hits, 1 error, $0.0123 paid, $0.0300 avoided, 35/s`` now and then.

    Lines come with events, so a run in which nothing happens writes nothing.
    """

    def __init__(self, clock: Clock, *, every: float, summary: bool = True) -> None:
        self._clock = clock
        self._every = every
        self._tally = Tally(clock, summary=summary)
        self._next = clock.monotonic() + every
        self._closed = False

    def __call__(self, event: Event, /) -> None:
        self._tally.add(event)
        if self._tally.report is not None:
            self.close()
        elif self._clock.monotonic() >= self._next:
            self._next = self._clock.monotonic() + self._every
            write_line(self._tally.line())

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            write_last_line(self._tally)


def write_line(line: str) -> None:
    """One line to what is standard error now."""
    sys.stderr.write(wrapped(line) + "\n")
    sys.stderr.flush()


def write_last_line(tally: Tally) -> None:
    """The summary of a run that finished, or how far the others came; nothing where it is not wanted."""
    if not tally.summary:
        return
    if tally.report is not None:
        left_out = (tally.total or 0) - tally.report.prompts
        write_line((f"Stopped, {left_out:,} left. " if left_out > 0 else "") + summary(tally.report))
    elif tally.started:
        write_line(f"Stopped: {tally.line()}.")
