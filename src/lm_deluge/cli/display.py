"""How far a ``deluge run`` has come, while it runs. What it did is told by a table at the end."""

import sys

from lm_deluge.events import Event, RunFinished, RunStarted
from lm_deluge.progress import ProgressStyle, listener

__all__ = ["Display"]


class Display:
    """A listener for one run.

    Args:
        style: how progress is shown.
        beside_results: whether results are written to standard output. A line that redraws itself would garble those
            that scroll by in a terminal.

    Attributes:
        total: how many responses will come, if that is known: the client reads a stream, and cannot tell.
    """

    def __init__(self, style: ProgressStyle, *, beside_results: bool) -> None:
        self.total: int | None = None
        self._shown = listener("manual" if style == "rich" and beside_results and sys.stdout.isatty() else style)

    def __call__(self, event: Event, /) -> None:
        match event:
            case RunStarted():
                self._shown(RunStarted(self.total, event.models))
            case RunFinished():
                self.close()
            case _:
                self._shown(event)

    def close(self) -> None:
        """Give the terminal back, without the sentence that the library ends with."""
        tally = getattr(self._shown, "_tally", None)
        if tally is not None:
            tally.started = False
        self._shown.close()
