"""Planning where a provider should cache a prompt. Pure: a pattern and a prompt give positions, for any provider."""

from lm_deluge.prompt_cache.advice import Advice, advise, tools_reordered
from lm_deluge.prompt_cache.estimate import Bill, Estimate, Forecast, PlannedRun, forecast, paced
from lm_deluge.prompt_cache.marked import Prefix, cache_key, prefix, prefixes
from lm_deluge.prompt_cache.options import PromptCache, as_prompt_cache
from lm_deluge.prompt_cache.patterns import PATTERNS, Pattern, check_pattern, plan
from lm_deluge.prompt_cache.planner import CachePlan, Planner
from lm_deluge.prompt_cache.predict import predict
from lm_deluge.prompt_cache.reading import Block
from lm_deluge.prompt_cache.sharding import Sharding
from lm_deluge.prompt_cache.sharing import PrefixIndex

__all__ = [
    "PATTERNS",
    "Advice",
    "Bill",
    "Block",
    "CachePlan",
    "Estimate",
    "Forecast",
    "Pattern",
    "PlannedRun",
    "Planner",
    "Prefix",
    "PrefixIndex",
    "PromptCache",
    "Sharding",
    "advise",
    "as_prompt_cache",
    "cache_key",
    "check_pattern",
    "forecast",
    "paced",
    "plan",
    "predict",
    "prefix",
    "prefixes",
    "tools_reordered",
]
