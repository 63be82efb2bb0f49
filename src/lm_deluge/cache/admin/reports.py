"""What reports of exports and imports have in common: what was left out and why, up to a number."""

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from lm_deluge._printable import shown
from lm_deluge.cache.entry import short_hex
from lm_deluge.errors import ConfigError

__all__ = ["Cut", "Left", "LeftOut", "check_namespace", "shortened"]

_SHOWN = 10


class Cut(Exception):
    """The work ends early; the message becomes a sentence of the report. What was done until then stays."""


class Left(msgspec.Struct, frozen=True):
    """Something that was left out.

    Attributes:
        what: a key in hexadecimal, or ``"line 12"``.
        reason: why.
    """

    MOST: ClassVar[int] = 100
    """A report names this many at most, and counts the rest."""

    what: str
    reason: str

    def __str__(self) -> str:
        return shown(f"{short_hex(self.what) if len(self.what) > 16 else self.what}: {self.reason}", lines=True)


class LeftOut(list[Left]):
    """The first things that were left out."""

    def note(self, what: str, reason: object) -> None:
        """Keep it, unless there are enough already."""
        if len(self) < Left.MOST:
            self.append(Left(what, str(reason)))


def check_namespace(namespace: str | None, name: str = "namespace") -> None:
    """Check a ``cache_key`` that is given to entries.

    Raises:
        ConfigError: it is empty, or no text.
    """
    if namespace is not None and (type(namespace) is not str or not namespace):
        raise ConfigError(f"{name} is {namespace!r}; a name that is not empty is needed.")


def shortened(left: Sequence[object], count: int) -> list[str]:
    """Lines for people: the first few of ``count``, and how many more there are."""
    lines = [f"  {item}" for item in left[:_SHOWN]]
    if lines and count > len(lines):
        lines.append(f"  and {count - len(lines):,} more")
    return lines
