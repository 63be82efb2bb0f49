"""What a run shows while it works: listeners for its events, one style a module.

They write to standard error, so that standard output stays the program's own. ``rich`` and ``tqdm`` are imported late:
by a run that shows progress with them, and by no other.
"""

from typing import Literal, Protocol, get_args

from lm_deluge._clock import Clock, SystemClock
from lm_deluge.errors import ConfigError
from lm_deluge.events import Event

__all__ = ["ProgressListener", "ProgressStyle", "listener"]

ProgressStyle = Literal["rich", "tqdm", "manual"]


class ProgressListener(Protocol):
    """Shows one run. Call it with each event, and close it when the run is over, however it ended."""

    def __call__(self, event: Event, /) -> None:
        """Take an event in. Cheap; drawing is limited to a few times a second."""
        ...

    def close(self) -> None:
        """Give the terminal back. A summary of a run that did not finish says how far it came. Twice is fine."""
        ...


def listener(style: ProgressStyle, *, clock: Clock | None = None, summary: bool = True) -> ProgressListener:
    """A new listener for one run.

    Args:
        style: ``"rich"`` for one live line in a terminal or notebook, and a plain line every 30 seconds where standard
            error is neither; ``"tqdm"`` for a tqdm bar; ``"manual"`` for a plain line every 10 seconds, as for logs.
        clock: the time that rates and intervals are measured on; None for the machine's.
        summary: end with a line of what the run did, or of how far it came. False where its user tells that.

    Raises:
        ConfigError: an unknown style.
        ImportError: tqdm is asked for and missing; the message holds the ``pip`` command.
    """
    clock = clock or SystemClock()
    if style == "rich":
        from lm_deluge.progress._live import LiveProgress, can_draw

        if can_draw():
            return LiveProgress(clock, summary=summary)
        style, seconds = "manual", 30.0
    else:
        seconds = 10.0
    if style == "manual":
        from lm_deluge.progress._plain import PlainProgress

        return PlainProgress(clock, every=seconds, summary=summary)
    if style == "tqdm":
        from lm_deluge.progress._tqdm import TqdmProgress

        return TqdmProgress(clock, summary=summary)
    raise ConfigError(f"progress={style!r} is not known; use one of {', '.join(get_args(ProgressStyle))}.")
