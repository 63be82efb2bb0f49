"""What reports of exports and imports have in common: what was left out and why, up to a number."""

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from lm_deluge._printable import shown

__all__ = ["Cut", "Left", "contradicted", "shortened", "there"]

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
        return shown(f"{self.what if len(self.what) <= 16 else self.what[:16] + '…'}: {self.reason}", lines=True)


def shortened(left: Sequence[object], count: int) -> list[str]:
    """Lines for people: the first few of ``count``, and how many more there are."""
    lines = [f"  {item}" for item in left[:_SHOWN]]
    if lines and count > len(lines):
        lines.append(f"  and {count - len(lines):,} more")
    return lines


def contradicted(conflicts: int, *, replaced: bool, dry_run: bool) -> str:
    """What is said of entries that are stored with another answer than the one that came."""
    kept = "what was there is kept"
    if replaced:
        kept = "would be replaced" if dry_run else "replaced"
    return f"{conflicts:,} {'is' if conflicts == 1 else 'are'} there with another answer; {kept}"


def there(count: int) -> str:
    """What is said of entries that are stored already."""
    return f"{'was' if count == 1 else 'were'} there already"
