"""How long to wait, from what servers put in headers. Seconds everywhere; anything that makes no sense is no wait.

Names of headers are in lower case, and ``now`` is in seconds since the Unix epoch.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

__all__ = ["MAX_WAIT", "duration", "pause", "retry_after", "until_rfc_3339"]

MAX_WAIT = 600.0
"""No header makes anyone wait longer, in seconds: servers send wrong dates, and limits refill by the minute."""

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{0,15})?")
_DURATION = re.compile(r"(?=[0-9])(?:([0-9.]+)d)?(?:([0-9.]+)h)?(?:([0-9.]+)m(?!s))?(?:([0-9.]+)s)?(?:([0-9.]+)ms)?")
_UNITS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_ZERO = re.compile(r"-?[0-9]+(\.0*)?")


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds to wait from ``retry-after-ms`` or ``retry-after``, a number or an HTTP date; None without."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return min(milliseconds / 1000, MAX_WAIT)
    given = headers.get("retry-after")
    if given is None:
        return None
    seconds = _number(given)
    return min(seconds, MAX_WAIT) if seconds is not None else _until_http_date(given, now)


def pause(
    headers: Mapping[str, str], limits: Iterable[tuple[str, str]], wait: Callable[[str | None], float | None]
) -> float | None:
    """Seconds until the last of the spent limits refills; None while no limit is known to be spent.

    Args:
        headers: of the answer.
        limits: of each limit, the header that tells what is left, and the one that tells when it is full again.
        wait: the seconds that a value of the latter means; None for one that makes no sense.
    """
    spent = [reset for remaining, reset in limits if _is_spent(headers.get(remaining))]
    if not spent:
        return None
    waits = (wait(headers.get(reset)) for reset in spent)
    return max((min(seconds, MAX_WAIT) for seconds in waits if seconds), default=None)


def _is_spent(remaining: str | None) -> bool:
    if remaining is None or remaining[:1] in "123456789":  # as nearly always
        return False
    return _ZERO.fullmatch(remaining.strip()) is not None and float(remaining) <= 0


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and _NUMBER.fullmatch(text := text.strip()) else None


def duration(text: str | None) -> float | None:
    """Seconds of a duration such as ``20ms`` and ``6m0s``."""
    if text is None:
        return None
    if (plain := _number(text)) is not None:
        return plain
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        return None
    seconds = 0.0
    for amount, unit in zip(match.groups(default="0"), _UNITS, strict=True):
        if (value := _number(amount)) is None:
            return None
        seconds += value * unit
    return seconds


def until_rfc_3339(text: str | None, now: float) -> float | None:
    """Seconds until a time such as ``2026-11-30T20:00:00Z``."""
    try:
        moment = datetime.fromisoformat(text or "")
        # A time without a zone would be read in this machine's; providers always give one.
        return max(moment.timestamp() - now, 0.0) if moment.tzinfo else None
    except (ValueError, OverflowError, OSError):
        return None


def _until_http_date(text: str, now: float) -> float | None:
    from email.utils import mktime_tz, parsedate_tz  # 10 ms to import, and hardly any server sends a date

    try:
        parsed = parsedate_tz(text)
        moment = float("nan") if parsed is None else mktime_tz(parsed)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return min(max(moment - now, 0.0), MAX_WAIT) if math.isfinite(moment) else None
