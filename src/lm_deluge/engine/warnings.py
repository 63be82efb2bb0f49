"""Warnings of one run: each is given once, and none of them can stop a batch."""

import asyncio
import logging
import sys
import warnings
from pathlib import Path

__all__ = ["Warnings"]

_log = logging.getLogger("lm_deluge")

# A warning should point at the line that called us, past this package and what runs its coroutines.
_OURS = (str(Path(__file__).parent.parent), str(Path(asyncio.__file__).parent), "uvloop")


class Warnings:
    """Gives each warning once.

    Where filters turn warnings into errors, one that comes before the first call is raised. Later ones are logged
    instead, because raising them would throw away answers that are paid for.

    Attributes:
        sending: whether calls may have been made.
    """

    def __init__(self) -> None:
        self.sending = False
        self._given: set[object] = set()

    def warn(self, key: object, message: str, category: type[Warning]) -> None:
        """Warn, unless this was warned of before."""
        if key in self._given:
            return
        self._given.add(key)
        try:
            warnings.warn(message, category, stacklevel=_depth_of_the_caller())
        except Warning:
            if not self.sending:
                raise
            _log.error("%s: %s", category.__name__, message)


def _depth_of_the_caller() -> int:
    """The ``stacklevel`` that points at the nearest frame outside; this package's own if there is none."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_code.co_filename.startswith(_OURS):
        if frame.f_back is None:
            return 2  # a thread of ours: nobody outside is on the stack
        depth, frame = depth + 1, frame.f_back
    return depth
