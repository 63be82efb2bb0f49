"""Durations and sizes as people type them: ``90s``, ``30d``, ``500MB``."""

import re

import typer

__all__ = ["parse_duration", "parse_seconds", "parse_size"]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smhdw])", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([kmgt]?)(i?)b", re.IGNORECASE)


def parse_duration(text: str) -> float:
    """Seconds in ``90s``, ``15m``, ``12h``, ``30d`` or ``2w``."""
    found = _DURATION.fullmatch(text.strip())
    seconds = 0.0 if found is None else float(found[1]) * _SECONDS[found[2].lower()]
    if not seconds:
        raise typer.BadParameter(f"{text!r} is not a duration such as 90s, 15m, 12h, 30d or 2w.")
    return seconds


def parse_seconds(text: str) -> float:
    """Seconds in a plain number above 0; ``inf`` is one."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise typer.BadParameter(f"{text!r} is not a number of seconds above 0.")
    return seconds


def parse_size(text: str) -> int:
    """Bytes in ``800kB``, ``500MB`` or ``2GB``; ``MiB`` and its like are powers of 1,024."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a size such as 800kB, 500MB or 2GB.")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2].lower()])
