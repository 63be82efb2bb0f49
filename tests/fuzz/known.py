"""Findings that are known and open. An entry goes when its cause is mended; what still shows it is new again.

Each is a target (``"*"`` for all), a kind, the beginning of what is said of it, and why it is open.
"""

from .judge import Verdict

__all__ = ["OPEN", "why"]

OPEN: dict[tuple[str, str, str], str] = {}


def why(name: str, verdict: Verdict) -> str | None:
    """Why a finding of a target is open; None for one that is new."""
    for (target, kind, what), reason in OPEN.items():
        if target in (name, "*") and kind == verdict.kind and verdict.what.startswith(what):
            return reason
    return None
