"""Planning where a provider should cache a prompt. Pure: a pattern and a prompt give positions, for any provider."""

from lm_deluge.prompt_cache.advice import (
    Advice,
    advise,
    advise_ahead,
    lifetime_differs,
    nothing_read,
    tools_reordered,
    unsupported,
)
from lm_deluge.prompt_cache.blocks import Block
from lm_deluge.prompt_cache.estimate import ANSWERED_AFTER, Bill, Estimate, Forecast
from lm_deluge.prompt_cache.options import PromptCache, as_prompt_cache
from lm_deluge.prompt_cache.patterns import PATTERNS, Pattern, check_pattern
from lm_deluge.prompt_cache.planner import CachePlan, Planner
from lm_deluge.prompt_cache.prefix import Prefix, cache_key
from lm_deluge.prompt_cache.prefix_index import PrefixIndex, PrefixIndexes
from lm_deluge.prompt_cache.provider_cache import Entries, Predictor
from lm_deluge.prompt_cache.routing_keys import RoutingKeys

__all__ = [
    "ANSWERED_AFTER",
    "PATTERNS",
    "Advice",
    "Bill",
    "Block",
    "CachePlan",
    "Entries",
    "Estimate",
    "Forecast",
    "Pattern",
    "Planner",
    "Predictor",
    "Prefix",
    "PrefixIndex",
    "PrefixIndexes",
    "PromptCache",
    "RoutingKeys",
    "advise",
    "advise_ahead",
    "as_prompt_cache",
    "cache_key",
    "check_pattern",
    "lifetime_differs",
    "nothing_read",
    "tools_reordered",
    "unsupported",
]
