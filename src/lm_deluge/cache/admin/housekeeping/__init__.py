"""Keeping a store in order: what is in it, what it cost, what may go, and whether it is still whole.

Functions over any store that can be scanned. They block, hold no more than they have to, and print nothing.
"""

from lm_deluge.cache.admin.housekeeping.drift import Drift, Resolved, drift
from lm_deluge.cache.admin.housekeeping.find import find, key_filter, only_one
from lm_deluge.cache.admin.housekeeping.prune import PruneReport, prune
from lm_deluge.cache.admin.housekeeping.restore import restore
from lm_deluge.cache.admin.housekeeping.stats import Group, Ledger, Stats, stats
from lm_deluge.cache.admin.housekeeping.verify import Problem, VerifyReport, verify

__all__ = [
    "Drift",
    "Group",
    "Ledger",
    "Problem",
    "PruneReport",
    "Resolved",
    "Stats",
    "VerifyReport",
    "drift",
    "find",
    "key_filter",
    "only_one",
    "prune",
    "restore",
    "stats",
    "verify",
]
