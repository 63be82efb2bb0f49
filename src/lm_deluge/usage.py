"""Tokens of one answer, by kind."""

import msgspec

__all__ = ["Usage"]


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Tokens of one answer, in parts that do not overlap.

    Providers disagree on what "input" includes: Anthropic leaves cached tokens out, OpenAI counts them in. Here the
    three input fields are disjoint for every provider, so ``total_input_tokens`` is their sum.

    Attributes:
        input_tokens: prompt tokens that were neither read from nor written to the provider's prompt cache.
        output_tokens: generated tokens, reasoning included.
        cache_read_tokens: prompt tokens read from the provider's prompt cache.
        cache_write_tokens: prompt tokens written to it, of all lifetimes.
        cache_write_1h_tokens: the part of ``cache_write_tokens`` that was written for one hour or more.
        reasoning_tokens: the part of ``output_tokens`` spent on thinking, where the provider says.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_input_tokens(self) -> int:
        """All prompt tokens, cached or not."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def total_tokens(self) -> int:
        """All prompt tokens and all generated ones."""
        return self.total_input_tokens + self.output_tokens

    @property
    def has_cache_hit(self) -> bool:
        """Whether the provider read any token from its prompt cache."""
        return self.cache_read_tokens > 0

    @property
    def has_cache_write(self) -> bool:
        """Whether the provider wrote any token to its prompt cache."""
        return self.cache_write_tokens > 0

    @property
    def cache_hit_ratio(self) -> float:
        """The share of prompt tokens that were read from the provider's prompt cache, 0 to 1."""
        return self.cache_read_tokens / self.total_input_tokens if self.total_input_tokens else 0.0

    def __add__(self, other: "Usage") -> "Usage":
        if not isinstance(other, Usage):
            return NotImplemented
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})
