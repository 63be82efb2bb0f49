"""Why a prompt is a hit or a miss."""

from lm_deluge.cache.explain.diagnosis import Explanation, Searcher, Wanted, explain

__all__ = ["Explanation", "Searcher", "Wanted", "explain"]
