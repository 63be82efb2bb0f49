"""Planning where a provider should cache a prompt. Pure: a pattern and a prompt give positions, for any provider."""

from lm_deluge.prompt_cache.patterns import PATTERNS, Pattern, check_pattern, plan

__all__ = ["PATTERNS", "Pattern", "check_pattern", "plan"]
