"""What each provider's prompt cache takes and promises, as rows of a table.

Where sources conflict a row holds the careful reading and a comment says so.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from lm_deluge.errors import ConfigError

__all__ = ["LIFETIMES", "LOOKBACK", "USUAL_MINIMUM", "Caching"]

LIFETIMES: Mapping[str, float] = MappingProxyType({"5m": 300.0, "30m": 1_800.0, "1h": 3_600.0, "12h": 43_200.0})
"""The lifetimes of cache entries that some provider has, in seconds."""

LOOKBACK = 20
"""Blocks, the last one included, that a provider looks back from a breakpoint (Anthropic, prompt caching guide)."""

USUAL_MINIMUM = 1_024
"""Tokens below which most models cache nothing: for models whose provider does not say."""

EVERYTHING = frozenset({"tool", "text", "image", "file", "tool_call", "tool_result"})
"""What a breakpoint may stand on anywhere."""


class Caching(msgspec.Struct, frozen=True, kw_only=True):
    """How prompt caching is asked for, and what is known of it. The defaults are those of a service without any.

    Attributes:
        breakpoint_field: the field of a block that holds a breakpoint; None where none is taken.
        max_breakpoints: breakpoints in one request.
        carriers: what takes one: ``"tool"``, and parts by their tags. A breakpoint on anything else moves to the
            nearest block before it that does, and is left out where there is none.
        lifetimes: what a breakpoint's ``ttl`` may be, the shortest first.
        default_lifetime: seconds that an entry lives after its last use, where no ``ttl`` is named.
        caches_tail: whether the end of each prompt is cached too unless the request says otherwise.
        places_breakpoint: whether the provider sets one at the end of a prompt itself where that is left to it.
        lookback: how many blocks back from a breakpoint an entry is found; None for entries at breakpoints alone.
        message_lookback: at how many of the last ends of messages an entry is found too, where the end is cached.
        renews_shorter: whether a read renews the shorter prefixes too that are inside the one that is read.
        runs_count_once: whether calls that follow each other count as one block of the look-back, and so do results.
        key_field: the body's field for a key that keeps prompts with one prefix together.
        key_header: the header for it.
        key_required: whether nothing is cached without a key.
        key_limit: requests a minute that one key takes; above that it is split.
        diagnostics: whether the provider says, on request, why a prompt was not read from its cache.
    """

    breakpoint_field: Literal["cache_control", "prompt_cache_breakpoint"] | None = None
    max_breakpoints: int = 4
    carriers: frozenset[str] = EVERYTHING
    lifetimes: tuple[str, ...] = ()
    default_lifetime: float = 300.0
    caches_tail: bool = False
    places_breakpoint: bool = False
    lookback: int | None = None
    message_lookback: int = 0
    renews_shorter: bool = True
    runs_count_once: bool = False
    key_field: str | None = None
    key_header: str | None = None
    key_required: bool = False
    key_limit: float | None = None
    diagnostics: bool = False

    @property
    def takes_breakpoints(self) -> bool:
        """Whether breakpoints reach the provider."""
        return self.breakpoint_field is not None

    @property
    def takes_key(self) -> bool:
        """Whether a routing key reaches the provider."""
        return self.key_field is not None or self.key_header is not None

    @property
    def takes_instructions(self) -> bool:
        """Whether anything can be asked of the provider's cache: a breakpoint, or a routing key."""
        return self.takes_breakpoints or self.takes_key

    def ttl(self, asked: str | None) -> str | None:
        """The provider's own lifetime for the one that was asked for; None for its default.

        The shortest that lasts as long as asked, and the longest where none does.

        Raises:
            ConfigError: no provider has such a lifetime.
        """
        if asked is None or not self.lifetimes:
            return None
        wanted = lifetime(asked)
        return next((each for each in self.lifetimes if LIFETIMES[each] >= wanted), self.lifetimes[-1])

    def seconds(self, ttl: str | None) -> float:
        """How long an entry lives after its last use.

        Raises:
            ConfigError: no provider has such a lifetime.
        """
        return self.default_lifetime if ttl is None else lifetime(ttl)


def lifetime(ttl: str) -> float:
    """Seconds of a lifetime.

    Raises:
        ConfigError: no provider has such a lifetime.
    """
    seconds = LIFETIMES.get(ttl)
    if seconds is None:
        raise ConfigError(f"{ttl!r} is no lifetime of a cache entry; known are {', '.join(LIFETIMES)}.")
    return seconds


# Anthropic, prompt caching guide. One copy of it counts a run of calls, or of results, as one position. Diagnostics
# (cache diagnostics guide) are on Anthropic's own API alone.
ANTHROPIC = Caching(
    breakpoint_field="cache_control",
    lifetimes=("5m", "1h"),
    places_breakpoint=True,
    lookback=LOOKBACK,
    runs_count_once=True,
    diagnostics=True,
)

# OpenAI, prompt caching guide, GPT-5.6 and later. Chat Completions takes 30m alone. The newest copy of the guide says
# that a routing key only separates accounts there, older copies recommend one, so none is sent; extra_body can.
OPENAI_BREAKPOINTS = Caching(
    breakpoint_field="prompt_cache_breakpoint",
    carriers=frozenset({"text", "image", "file", "tool_result"}),
    lifetimes=("30m",),
    default_lifetime=1_800.0,
    caches_tail=True,
    places_breakpoint=True,
    message_lookback=21,  # the last message and up to 20 before it
    renews_shorter=False,  # the guide does not say
)

# The same guide, earlier models: cached by itself, for five to ten minutes; a key keeps requests on one machine.
OPENAI_KEYS = Caching(key_field="prompt_cache_key", key_limit=15.0)

# OpenRouter, prompt caching guide: breakpoints on text are passed to Anthropic and others. Who answers may change
# between requests, so nothing is certain, and a run of calls is not counted as one block everywhere. One at the top of
# the body works for Claude alone, and keeps its requests from all but Anthropic, so the place is not left to it.
OPENROUTER = Caching(
    breakpoint_field="cache_control",
    carriers=frozenset({"tool", "text", "tool_result"}),
    lifetimes=("5m", "1h"),
    lookback=LOOKBACK,
)

# Mistral, prompt caching: nothing is cached without the key.
MISTRAL = Caching(key_field="prompt_cache_key", key_required=True)
XAI = Caching(key_header="x-grok-conv-id")  # xAI, prompt caching: the header keeps requests on one server
