"""The rows of the tables, in their order: one file for each, with ``measure(bench)``, which gives one or more lines."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.bench import Bench
    from benchmarks.figures import Line

# Memory before hits: the caches that it fills are the ones that hits are read from.
CLIENT = ("import_time", "misses", "memory", "hits", "default_limits", "stall", "disk", "streaming")
BILL = ("fan_out",)
CACHES = ("cache_stores", "cache_sizes")
NAMES = (*CLIENT, *BILL, *CACHES)


def row(name: str) -> "Callable[[Bench], Sequence[Line]]":
    """How a row is measured."""
    measure: Callable[[Bench], Sequence[Line]] = importlib.import_module(f"benchmarks.rows.{name}").measure
    return measure
