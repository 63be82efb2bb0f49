"""Messages on standard error, with everything harmless that others have written."""

import sys

from lm_deluge._printable import shown
from lm_deluge.progress.line_breaks import wrapped

__all__ = ["for_stderr", "say", "shown"]


def for_stderr(text: str) -> str:
    """A message with line breaks for standard error. It may hold any text."""
    return wrapped(shown(text, lines=True)) + "\n"


def say(text: str) -> None:
    """Write a message to standard error."""
    sys.stderr.write(for_stderr(text))
    sys.stderr.flush()
