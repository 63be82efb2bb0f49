"""Texts for a terminal: what others have written made harmless, and what is said on standard error."""

import sys

from lm_deluge._printable import shown
from lm_deluge.progress.line_breaks import wrapped

__all__ = ["for_stderr", "say", "shown"]


def for_stderr(text: str) -> str:
    """A message as standard error gets it, with the end of its last line. It may hold anything."""
    return wrapped(shown(text, lines=True)) + "\n"


def say(text: str) -> None:
    """Write such a message."""
    sys.stderr.write(for_stderr(text))
    sys.stderr.flush()
