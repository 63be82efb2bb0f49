"""Warnings of one run: each is given once, and none of them can stop a batch."""

import sys
import warnings
from pathlib import Path

__all__ = ["Notices"]

_PACKAGE = str(Path(__file__).parent.parent)


class Notices:
    """Gives each warning once.

    Where filters turn warnings into errors, the error is kept until the run is over, because raising it in the middle
    would throw away answers that are paid for.
    """

    def __init__(self) -> None:
        self._given: set[object] = set()
        self._raised: Warning | None = None

    def warn(self, key: object, message: str, category: type[Warning]) -> None:
        """Warn, unless this was warned of before."""
        if key in self._given:
            return
        self._given.add(key)
        try:
            if sys.version_info >= (3, 12):
                warnings.warn(message, category, skip_file_prefixes=(_PACKAGE,))
            else:
                warnings.warn(message, category, stacklevel=2)
        except Warning as error:
            self._raised = self._raised or error

    def raise_if_asked(self) -> None:
        """Raise the first warning that a filter turned into an error."""
        if self._raised is not None:
            raise self._raised
