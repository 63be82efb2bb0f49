"""A tqdm bar, for those whose scripts and notebooks are full of them."""

from typing import Any

from lm_deluge._clock import Clock
from lm_deluge._optional import require
from lm_deluge.events import Event, RunStarted
from lm_deluge.progress._plain import write_last_line
from lm_deluge.progress._tally import Tally

__all__ = ["TqdmProgress"]

_REDRAW = 0.1


class TqdmProgress:
    """A bar with hits, errors, retries and money behind it."""

    def __init__(self, clock: Clock, *, summary: bool = True) -> None:
        self._tqdm = require("tqdm", extra="tqdm", purpose="progress='tqdm'").tqdm
        self._clock = clock
        self._tally = Tally(clock, summary=summary)
        self._bar: Any = None
        self._next = 0.0
        self._closed = False

    def __call__(self, event: Event, /) -> None:
        self._tally.add(event)
        if isinstance(event, RunStarted):
            self._bar = self._tqdm(total=event.total, unit="prompt", dynamic_ncols=True)
        elif self._tally.report is not None:
            self.close()
        elif self._bar is not None and (now := self._clock.monotonic()) >= self._next:
            self._next = now + _REDRAW
            self._draw()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._bar is not None:
            self._draw()
            self._bar.close()
        write_last_line(self._tally)

    def _draw(self) -> None:
        pause = self._tally.pause
        self._bar.set_postfix_str(pause or ", ".join(self._tally.facts()), refresh=False)
        self._bar.update(self._tally.done - self._bar.n)
