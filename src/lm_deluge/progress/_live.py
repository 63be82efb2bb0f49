"""One live line in a terminal or a notebook, drawn with rich.

A thread of its own draws ten times a second, so an event costs a few additions however many come. The thread imports
rich too: the event loop does not wait for that, and a run that is over in a moment does not import it at all.
"""

import atexit
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lm_deluge._clock import Clock
from lm_deluge._locks import renewed
from lm_deluge.events import Event, RunStarted
from lm_deluge.progress._plain import write_last_line
from lm_deluge.progress._tally import Tally
from lm_deluge.text import duration, rate

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["LiveProgress", "can_draw"]

_PATIENCE = 0.2
"""Seconds before the line appears. A run that is shorter shows its summary and nothing else."""

_REDRAW = 0.1
_BAR_WIDTHS = (8, 30)

_terminal = renewed(threading.Lock())
"""Held by the run that draws. Of several runs at once one is shown at a time; each writes its summary."""


def can_draw() -> bool:
    """Whether standard error can show a line that changes."""
    return "ipykernel" in sys.modules or sys.stderr.isatty()


class LiveProgress:
    """A line with a bar, the position, the rate, the time left and what it cost; the summary takes its place."""

    def __init__(self, clock: Clock, *, summary: bool = True) -> None:
        self._tally = Tally(clock, summary=summary)
        self._over = renewed(threading.Event())
        self._thread: threading.Thread | None = None
        self._closed = False

    def __call__(self, event: Event, /) -> None:
        self._tally.add(event)
        if isinstance(event, RunStarted):
            self._thread = threading.Thread(target=self._show, name="lm_deluge progress", daemon=True)
            # A run that is never closed must not leave the terminal without a cursor.
            atexit.register(self.close)
            self._thread.start()
        elif self._tally.report is not None:
            self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        write_last_line(self._tally)

    def _show(self) -> None:
        pause = _PATIENCE
        while not self._over.wait(pause):
            if _terminal.acquire(blocking=False):
                try:
                    self._draw_until_over()
                finally:
                    _terminal.release()
            pause = _REDRAW

    def _draw_until_over(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        console = Console(stderr=True)
        spinner = Spinner("dots", style="cyan")
        # While it draws, rich sends what others write to standard error, warnings for example, above the line. It would
        # send standard output there as well, which is only right where both are the same terminal.
        both = sys.stdout.isatty()
        with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=both) as live:
            while True:
                live.update(draw(self._tally, console.width, spinner), refresh=True)
                if self._over.wait(_REDRAW):
                    return


def draw(tally: Tally, width: int, spinner: "RenderableType") -> "RenderableType":
    """The line, ``width`` columns wide: a bar, or ``spinner`` while the total is not known, and the numbers.

    What is least important is left out where there is no room.
    """
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    smallest, widest = _BAR_WIDTHS if tally.total is not None else (1, 1)
    line = Text(no_wrap=True, overflow="ellipsis", end="")
    for text, style in _pieces(tally):
        if line and line.cell_len + 2 + len(text) > width - smallest - 1:
            break
        line.append("  " if line else "").append(text, style)
    room = width - line.cell_len - 1
    front: RenderableType = spinner
    if tally.total is not None:
        front = ProgressBar(total=max(tally.total, 1), completed=tally.done, width=max(smallest, min(widest, room)))
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(front, line)
    return grid


def _pieces(tally: Tally) -> Iterator[tuple[str, str]]:
    """Texts and their styles, the most important first."""
    percent = f" {100 * tally.done // tally.total}%" if tally.total else ""
    yield tally.position + percent, "bold"
    pause, remaining = tally.pause, tally.remaining
    if pause is not None:
        yield pause, "yellow"
    else:
        yield rate(tally.per_second), "cyan"
        if remaining is not None:
            yield f"{duration(remaining)} left", "cyan"
    for fact in tally.facts():
        yield fact, "red" if "error" in fact else "green" if "avoided" in fact else "default"
