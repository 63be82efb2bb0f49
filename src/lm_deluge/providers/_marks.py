"""Breakpoints as marks on the blocks of a body.

A builder shows every block in the order in which the provider reads the prompt: tools, system, messages. A breakpoint
on a part that is not sent, or that takes no mark, goes to the nearest block before it that does: the provider then
caches a little less, and nothing that was not meant to be cached.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from lm_deluge.errors import ConfigError
from lm_deluge.models import Caching
from lm_deluge.prompt import Part
from lm_deluge.request import Breakpoint

__all__ = ["Marker", "cache_control"]

Mark = dict[str, str]


def cache_control(ttl: str | None = None) -> Mark:
    """The mark that Anthropic defined."""
    return {"type": "ephemeral"} if ttl is None else {"type": "ephemeral", "ttl": ttl}


def _explicit_breakpoint(ttl: str | None = None) -> Mark:
    return {"mode": "explicit"} if ttl is None else {"mode": "explicit", "ttl": ttl}


_WRITERS: Mapping[str, Callable[[str | None], Mark]] = {
    "cache_control": cache_control,
    "prompt_cache_breakpoint": _explicit_breakpoint,
}


class Marker:
    """Puts marks on blocks while a body is written.

    Args:
        caching: what the provider takes; the name of the style is the name of the field.
        breakpoints: where the marks go.
        reserved: marks that the request sets in another way and that count too.

    Attributes:
        style: the field that holds a mark, or ``"none"``.
        count: marks set so far.
    """

    def __init__(self, caching: Caching, breakpoints: Sequence[Breakpoint], *, reserved: int = 0) -> None:
        self.style = caching.marks
        self.count = 0
        self._caching = caching
        wanted = breakpoints if caching.takes_marks else ()
        self._wanted = {(mark.section, mark.index, mark.part): mark.ttl for mark in wanted}
        self._most = caching.max_marks - reserved
        self._last: dict[str, Any] | None = None

    def takes(self, part: Part, block: dict[str, Any] | None) -> bool:
        """Whether the provider takes a mark on such a part, or the user has set one on its block."""
        return part.__struct_config__.tag in self._caching.markable or (block is not None and self.style in block)

    def visit(self, section: Literal["tools", "messages"], index: int, part: int, block: dict[str, Any] | None) -> None:
        """Show the next block, or None for a part that is not sent or takes no mark.

        Raises:
            ConfigError: a lifetime that no provider has, or more marks than this one takes.
        """
        if block is not None and self.style in block:
            self._last = None  # a mark of the user covers what one that moves back to it would
        elif block is not None and (section == "messages" or "tool" in self._caching.markable):
            self._last = block
        place = (section, index, part)
        if place not in self._wanted or self._last is None:
            return
        ttl = self._caching.ttl(self._wanted[place])
        known = self._last.get(self.style)
        if known is None:
            self.count += 1
            if self.count > self._most:
                raise ConfigError(f"A prompt takes at most {self._caching.max_marks} cache breakpoints; give fewer.")
        elif self._caching.seconds(ttl) <= self._caching.seconds(known.get("ttl")):
            return  # of two lifetimes on one block the longer holds
        self._last[self.style] = _WRITERS[self.style](ttl)
