"""Planning where a provider should cache a prompt. Pure: a pattern and a prompt give positions, for any provider."""

from lm_deluge.prompt_cache.advice import Advice, advise
from lm_deluge.prompt_cache.marked import Prefix, cache_key, prefix, prefixes, shards_for
from lm_deluge.prompt_cache.options import PromptCache, as_prompt_cache
from lm_deluge.prompt_cache.patterns import PATTERNS, Pattern, check_pattern, plan
from lm_deluge.prompt_cache.planner import CachePlan, Planner
from lm_deluge.prompt_cache.predict import count_roughly, predict
from lm_deluge.prompt_cache.reading import Block
from lm_deluge.prompt_cache.sharing import PrefixIndex

__all__ = [
    "PATTERNS",
    "Advice",
    "Block",
    "CachePlan",
    "Pattern",
    "Planner",
    "Prefix",
    "PrefixIndex",
    "PromptCache",
    "advise",
    "as_prompt_cache",
    "cache_key",
    "check_pattern",
    "count_roughly",
    "plan",
    "predict",
    "prefix",
    "prefixes",
    "shards_for",
]
