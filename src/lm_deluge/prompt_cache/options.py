"""What a user asks of the provider's prompt cache, as one value."""

from typing import Any, Literal, get_args

import msgspec

from lm_deluge.errors import ConfigError
from lm_deluge.prompt_cache.patterns import ROWS, Pattern, PatternRow, check_pattern

__all__ = ["PromptCache", "Ttl", "as_prompt_cache"]

Ttl = Literal["5m", "30m", "1h", "12h"]


class PromptCache(msgspec.Struct, frozen=True):
    """How the provider should cache prompts. The value of ``cache=``; a pattern's name alone stands for its defaults.

    Attributes:
        pattern: which part of a prompt is cached.
        ttl: how long an entry lives after its last use; None for the provider's default. A provider that does not have
            this lifetime gets its shortest one that lasts as long, or else its longest.
        warm: whether prompts that share a prefix wait until the answer to the first of them has begun, for only then
            can they read what it wrote. ``"prefill"`` has the prefix written by a request without an answer, if the
            provider supports that.
        diagnostics: have the provider say why a prompt was not read from its cache, where it does (Anthropic). The
            reasons are counted in ``report.cache_miss_reasons``, and warned of once each.

    Raises:
        ConfigError: a value that is not known.
    """

    pattern: Pattern = "system_and_tools"
    ttl: Ttl | None = None
    warm: bool | Literal["prefill"] = True
    diagnostics: bool = False

    def __post_init__(self) -> None:
        if check_pattern(self.pattern) is None:
            raise ConfigError("PromptCache needs a pattern, such as PromptCache(pattern='system_and_tools').")
        _check("ttl", self.ttl, (None, *get_args(Ttl)))
        _check("warm", self.warm, (True, False, "prefill"))
        _check("diagnostics", self.diagnostics, (True, False))

    @property
    def row(self) -> PatternRow:
        """What there is to know of the pattern."""
        return ROWS[self.pattern]

    @property
    def goes_on(self) -> bool:
        """Whether the pattern is for prompts that go on from each other, so that each is worth keeping to its end."""
        return self.row.goes_on


def as_prompt_cache(value: str | PromptCache | None) -> PromptCache | None:
    """What ``cache=`` means: the value itself, or the defaults of the pattern that it names.

    Raises:
        ConfigError: it is neither.
    """
    if value is None or isinstance(value, PromptCache):
        return value
    pattern = check_pattern(value)
    return None if pattern is None else PromptCache(pattern=pattern)


def _check(name: str, value: object, known: tuple[Any, ...]) -> None:
    # By type too: 1 is no True here.
    if not any(type(value) is type(each) and value == each for each in known):
        raise ConfigError(f"PromptCache({name}={value!r}) is not known; use {', '.join(map(repr, known))}.")
