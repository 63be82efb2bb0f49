"""Breakpoints on the blocks of a body.

A builder shows every block in the order in which the provider reads the prompt: tools, system, messages. A breakpoint
on a part that is not sent, or that takes none, goes to the nearest block before it that does: the provider then caches
a little less, and nothing that was not meant to be cached.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from lm_deluge.errors import ConfigError
from lm_deluge.models import Caching
from lm_deluge.prompt import Part
from lm_deluge.request import Breakpoint

__all__ = ["BREAKPOINT_STYLES", "BreakpointStyle", "BreakpointWriter"]


class BreakpointStyle(msgspec.Struct, frozen=True):
    """A way of writing a breakpoint.

    Attributes:
        fields: what a breakpoint holds beside its lifetime.
        default_ttl: how long an entry lives where it names no lifetime.
    """

    fields: Mapping[str, str]
    default_ttl: str

    def write(self, ttl: str | None = None) -> dict[str, str]:
        """A breakpoint with a lifetime, or with the default one."""
        return dict(self.fields) if ttl is None else {**self.fields, "ttl": ttl}


BREAKPOINT_STYLES: Mapping[str, BreakpointStyle] = MappingProxyType(
    {
        "cache_control": BreakpointStyle({"type": "ephemeral"}, "5m"),  # Anthropic, prompt caching guide
        "prompt_cache_breakpoint": BreakpointStyle({"mode": "explicit"}, "30m"),  # OpenAI, prompt caching guide
    }
)
"""Every style, by the field of a block that holds the breakpoint. See ``Caching.breakpoint_field``."""


class BreakpointWriter:
    """Puts breakpoints on blocks while a body is written.

    Args:
        caching: what the provider takes.
        breakpoints: where they go.
        reserved: breakpoints that the request sets in another way and that count too.

    Attributes:
        count: breakpoints set so far.
    """

    def __init__(self, caching: Caching, breakpoints: Sequence[Breakpoint], *, reserved: int = 0) -> None:
        self.count = 0
        self._caching = caching
        self._field = caching.breakpoint_field
        wanted = breakpoints if caching.takes_breakpoints else ()
        self._wanted = {each.place: each.ttl for each in wanted}
        self._most = caching.max_breakpoints - reserved
        self._last: dict[str, Any] | None = None

    def takes(self, part: Part, block: dict[str, Any] | None) -> bool:
        """Whether the provider takes a breakpoint on such a part, or the user has set one on its block."""
        return part.__struct_config__.tag in self._caching.carriers or (block is not None and self._field in block)

    def visit(self, section: Literal["tools", "messages"], index: int, part: int, block: dict[str, Any] | None) -> None:
        """Show the next block, or None for a part that is not sent or takes no breakpoint.

        Raises:
            ConfigError: a lifetime that no provider has, or more breakpoints than this one takes.
        """
        if block is not None and self._field in block:
            self._last = None  # the user's breakpoint covers what one that moves back to it would
        elif block is not None and (section == "messages" or "tool" in self._caching.carriers):
            self._last = block
        place = (section, index, part)
        if place not in self._wanted or self._last is None or self._field is None:
            return
        ttl = self._caching.ttl(self._wanted[place])
        known = self._last.get(self._field)
        if known is None:
            self.count += 1
            if self.count > self._most:
                most = self._caching.max_breakpoints
                raise ConfigError(f"A prompt takes at most {most} cache breakpoints; give fewer.")
        elif self._caching.seconds(ttl) <= self._caching.seconds(known.get("ttl")):
            return  # of two lifetimes on one block the longer holds
        self._last[self._field] = BREAKPOINT_STYLES[self._field].write(ttl)
