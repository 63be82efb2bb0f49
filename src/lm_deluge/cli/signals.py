"""Ending a run well when the system ends it: schedulers and containers send SIGTERM where people press Ctrl-C."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["sigterm_as_ctrl_c"]


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[Callable[[], bool]]:
    """SIGTERM ends what happens here as SIGINT would; what is given says whether it came."""
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
