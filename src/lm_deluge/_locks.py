"""Locks that are free in a forked child.

A child has one thread, and copies of all locks as they were. One that another thread of the parent held would never be
released there. So what is ``renewed`` is replaced in each child, as the ``logging`` of the standard library does it.
"""

import os
import weakref
from typing import Any, TypeVar

__all__ = ["renewed"]

T = TypeVar("T")

_renewed: "weakref.WeakSet[Any]" = weakref.WeakSet()
_registered = False


def renewed(lock: T) -> T:
    """Have a lock, or something with one, be as new in a child. Returns it.

    Args:
        lock: of ``threading``: a lock, a condition, an event; or an object that has ``_at_fork_reinit`` as they do,
            because what its lock guards would be of no use in a child.
    """
    global _registered
    if not _registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_renew)
        _registered = True
    _renewed.add(lock)
    return lock


def _renew() -> None:
    for lock in list(_renewed):
        lock._at_fork_reinit()
