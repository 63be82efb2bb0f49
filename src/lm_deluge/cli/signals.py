"""SIGTERM as Ctrl-C, so that a run ends well when a scheduler or a container ends it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["sigterm_as_ctrl_c"]


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM end the block as SIGINT would. The function that is given tells whether it came."""
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.raise_signal(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():  # which alone may have handlers
        yield lambda: came
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGTERM, before)
