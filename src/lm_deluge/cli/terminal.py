"""Texts for a terminal: what others have written made harmless, and what is said on standard error."""

import sys
import unicodedata

from lm_deluge.progress.wrapping import wrapped

__all__ = ["for_stderr", "say", "shown"]

_DANGEROUS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_HARMLESS = frozenset("\u200c\u200d")  # join letters and emoji


def shown(text: str, *, lines: bool = False) -> str:
    """Text with everything spelled out that could move the cursor, reorder what is read, or hide.

    Args:
        text: from an entry, a provider or a file.
        lines: leave line ends as they are; otherwise all white space becomes single spaces.
    """
    if not lines:
        text = " ".join(text.split())
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(
        character
        if character in _HARMLESS or (lines and character == "\n") or unicodedata.category(character) not in _DANGEROUS
        else character.encode("unicode_escape").decode()
        for character in text
    )


def for_stderr(text: str) -> str:
    """A message as standard error gets it, with the end of its last line. It may hold anything."""
    return wrapped(shown(text, lines=True)) + "\n"


def say(text: str) -> None:
    """Write such a message."""
    sys.stderr.write(for_stderr(text))
    sys.stderr.flush()
