"""What comes from a stranger, one module for each kind.

A target module has ``target(data, tmp)``, which does with ``data`` what the package would do, in an empty directory of
its own, and returns all that a user would see of it. An error of our tree is a right answer; a failed assertion says
that something promised does not hold. ``cases()`` is a Hypothesis strategy for ``data``. Optional are ``SECONDS`` and
``MEGABYTES``, the limits of one case, and ``missing()``, which says what has to be installed first.
"""

from importlib import import_module
from types import ModuleType

__all__ = ["NAMES", "load"]

NAMES = (
    "entries",
    "bundles",
    "bodies",
    "streams",
    "errors",
    "logs",
    "lists",
    "rows",
    "results",
    "sqlite",
    "leveldb",
    "redis",
)


def load(name: str) -> ModuleType:
    """The module of a target; one of another place has a dotted name."""
    if name not in NAMES and "." not in name:
        raise SystemExit(f"There is no target {name!r}; known are {', '.join(NAMES)}.")
    return import_module(name if "." in name else f"{__name__}.{name}")
