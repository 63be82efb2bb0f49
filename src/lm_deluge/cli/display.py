"""How far a ``deluge run`` has come, while it runs. What it did is told by a table at the end."""

import sys

from lm_deluge.events import Event, RunStarted
from lm_deluge.progress import ProgressStyle, listener

__all__ = ["Display"]


class Display:
    """A listener for one run.

    Attributes:
        total: how many responses will come, if that is known: the client reads a stream, and cannot tell.
    """

    def __init__(self, style: ProgressStyle, *, beside_results: bool) -> None:
        self.total: int | None = None
        garbles = style == "rich" and beside_results and sys.stdout.isatty()
        self._shown = listener("manual" if garbles else style, summary=False)

    def __call__(self, event: Event, /) -> None:
        self._shown(RunStarted(self.total, event.models) if isinstance(event, RunStarted) else event)

    def close(self) -> None:
        """Give the terminal back."""
        self._shown.close()
