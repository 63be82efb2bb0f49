"""Numbers as people read them: counts, money, sizes, rates, durations, ages and dates.

Everything that is told to people is formatted here, so that one amount looks the same in a warning, a table and a
summary. Programs get plain numbers instead.
"""

import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime

__all__ = ["NOTHING", "age", "ago", "counted", "date", "day", "duration", "moment", "money", "rate", "size"]

NOTHING = "–"
"""Stands in a table for zero and for what is not known."""

_NO_MONEY = 1e-9  # dollars; less than that is the rounding error of a difference
_SIZES = ("bytes", "kB", "MB", "GB", "TB")
_AGES = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """``1 error``, ``2 errors``, ``1,319 prompts``.

    Args:
        number: how many.
        singular: the noun for one; a verb may follow it.
        plural: the noun for any other number; the singular with an ``s`` by default.
    """
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def money(dollars: float | None, *, beside: Iterable[float] = ()) -> str:
    """US dollars with their significant digits: ``$1,234``, ``$1.23``, ``$0.0123``, ``$0.00042``; a dash for None.

    Args:
        dollars: the amount.
        beside: the other amounts of a column. All of them get the decimals that the smallest one needs.
    """
    if dollars is None:
        return NOTHING
    sign, amount = ("-", -dollars) if dollars < 0 else ("", dollars)
    if amount < _NO_MONEY:
        return "$0"
    return f"{sign}${amount:,.{max(map(_decimals, (amount, *beside)))}f}"


def _decimals(dollars: float) -> int:
    amount = abs(dollars)
    if amount >= 999.995 or amount < _NO_MONEY:
        return 0
    if amount >= 0.99995:
        return 2
    if amount >= 0.01:
        return 4
    return 1 - int(f"{amount:.1e}".partition("e")[2])  # two significant digits, however small the amount


def size(number: float) -> str:
    """Bytes in powers of 1,000: ``1 byte``, ``512 bytes``, ``1.4 kB``, ``12 MB``."""
    unit = 0
    while number >= 999.5 and unit < len(_SIZES) - 1:
        number /= 1000
        unit += 1
    digits = 1 if unit and number < 9.95 else 0
    return f"{number:,.{digits}f} {'byte' if not unit and number == 1 else _SIZES[unit]}"


def rate(per_second: float) -> str:
    """``26,380/s``, ``4.2/s``, ``0.05/s``."""
    digits = 0 if per_second >= 9.95 else 1 if per_second >= 0.95 else 2
    return f"{per_second:,.{digits}f}/s"


def duration(seconds: float) -> str:
    """How long something takes: ``under 1 ms``, ``0.05 s``, ``4.2 s``, ``42 s``, ``3 min 5 s``, ``2 h 5 min``."""
    if seconds < 0.95:
        return f"{seconds:.2g} s" if seconds >= 0.001 else "under 1 ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def age(seconds: float) -> str:
    """How old something is, in the unit that gives the shortest number: ``40 seconds``, ``3 hours``, ``9.5 days``."""
    if not math.isfinite(seconds):
        return "an unknown time"
    for unit, length in _AGES:
        if seconds >= 1.5 * length or (seconds >= length and seconds % length == 0):
            return _of_unit(f"{seconds / length:,.1f}".removesuffix(".0"), unit)
    return _of_unit(f"{seconds:.3g}", "second")


def _of_unit(number: str, unit: str) -> str:
    return f"{number} {unit if number == '1' else unit + 's'}"


def ago(when: float, now: float | None = None) -> str:
    """``3 days ago``, ``in 2 hours``, ``just now``; ``at an unknown time`` for what is no time.

    Args:
        when: seconds since the Unix epoch.
        now: the same; None for the present.
    """
    passed = (time.time() if now is None else now) - when
    if not math.isfinite(passed):
        return "at an unknown time"
    if abs(passed) < 1:
        return "just now"
    told = age(float(int(abs(passed))))
    return f"{told} ago" if passed > 0 else f"in {told}"


def date(when: float | None, *, seconds: bool = False) -> str:
    """``2026-11-02 14:03`` in UTC, without saying so; a dash for None, zero, and what is no date.

    Args:
        when: seconds since the Unix epoch.
        seconds: show them too.
    """
    if not when:
        return NOTHING
    try:
        return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return NOTHING


def day(when: float | None) -> str:
    """``2026-11-02``, as ``date`` without the time."""
    return date(when)[: len("2026-11-02")]


def moment(when: float | None, *, seconds: bool = False) -> str:
    """``2026-11-02 14:03 UTC`` for a sentence; ``an unknown time`` for what is no date."""
    told = date(when, seconds=seconds)
    return "an unknown time" if told == NOTHING else f"{told} UTC"
