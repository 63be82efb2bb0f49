"""Messages on standard error, with everything harmless that others have written, and questions there."""

import sys

from lm_deluge._printable import shown
from lm_deluge.errors import ConfigError
from lm_deluge.progress.line_breaks import wrapped

__all__ = ["ask", "for_stderr", "say", "shown"]


def for_stderr(text: str) -> str:
    """A message with line breaks for standard error. It may hold any text."""
    return wrapped(shown(text, lines=True)) + "\n"


def say(text: str) -> None:
    """Write a message to standard error."""
    sys.stderr.write(for_stderr(text))
    sys.stderr.flush()


def ask(what: str, *, yes: bool) -> None:
    """Return if the user agrees to something that cannot be taken back.

    Raises:
        ConfigError: the user does not agree, or there is no terminal to ask on.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError(f"{what} Nothing was changed; add --yes to do it.")
    sys.stderr.write(wrapped(f"{shown(what, lines=True)} Go on? [y/N]") + " ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigError("Nothing was changed.")
