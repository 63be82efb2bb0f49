"""Breakpoints as ``cache_control`` marks on the blocks of a body.

A builder shows every block in the order in which the provider reads the prompt: tools, system, messages. A breakpoint
on a part that is not sent, or that takes no mark, goes to the nearest block before it that does: the provider then
caches a little less, and nothing that was not meant to be cached.
"""

from collections.abc import Sequence
from typing import Any, Literal

from lm_deluge.errors import ConfigError
from lm_deluge.request import Breakpoint

__all__ = ["Marker", "cache_control"]

_MAX_MARKS = 4  # Anthropic, prompt caching guide
_LIFETIMES = ("5m", "1h")  # Anthropic, prompt caching guide


class Marker:
    """Puts marks on blocks while a body is written.

    Args:
        breakpoints: where the marks go.
        reserved: marks that the request sets in another way and that count too.
    """

    def __init__(self, breakpoints: Sequence[Breakpoint], *, reserved: int = 0) -> None:
        self._wanted = {(mark.section, mark.index, mark.part): mark.ttl for mark in breakpoints}
        self._left = _MAX_MARKS - reserved
        self._last: dict[str, Any] | None = None

    def visit(self, section: Literal["tools", "messages"], index: int, part: int, block: dict[str, Any] | None) -> None:
        """Show the next block, or None for a part that is not sent or takes no mark.

        Raises:
            ConfigError: a lifetime that providers do not have, or a fifth mark.
        """
        if block is not None:
            self._last = block
        place = (section, index, part)
        if place not in self._wanted or self._last is None:
            return
        mark = cache_control(self._wanted[place])
        known = self._last.get("cache_control")
        if known is None:
            self._left -= 1
            if self._left < 0:
                raise ConfigError(f"A prompt takes at most {_MAX_MARKS} cache breakpoints; give fewer.")
        if known is None or mark.get("ttl") == "1h":  # of two lifetimes on one block the longer holds
            self._last["cache_control"] = mark


def cache_control(ttl: str | None = None) -> dict[str, str]:
    """The mark itself.

    Raises:
        ConfigError: a lifetime that providers do not have.
    """
    if ttl is None:
        return {"type": "ephemeral"}
    if ttl not in _LIFETIMES:
        raise ConfigError(f"A cache breakpoint lives for {' or '.join(_LIFETIMES)}; ttl={ttl!r} is neither.")
    return {"type": "ephemeral", "ttl": ttl}
