"""Closing files before a fork, so that no open file is carried into the child.

SQLite keeps its locks for the whole process. A child that inherits an open connection believes that it holds locks
which only its parent holds. When the parent then closes the file, what the child commits afterwards is lost, even
through connections that the child opened itself. So each holder of such a file closes it before a fork and opens it
again when needed, in the parent and in the child.

A fork does not wait long. A wait for another program gives way to it. A file that another thread uses all the time
stays in use in the parent, and is not used in the child.
"""

import os
import threading
import time
import weakref
from typing import Protocol

__all__ = ["HoldsFiles", "close_before_fork"]

_SECONDS = 2.0  # for all files together


class HoldsFiles(Protocol):
    """Something with open files behind a lock."""

    def pause(self, seconds: float) -> bool:
        """Take the lock, and close the files. False, and nothing is changed, if the lock is not free in time."""
        ...

    def resume(self) -> None:
        """Release the lock. Called in the parent and in the child, by the thread that called ``pause``."""
        ...

    def abandon(self) -> None:
        """Called in the child where ``pause`` gave False: neither use the files again nor close them."""
        ...


_holders: "weakref.WeakSet[HoldsFiles]" = weakref.WeakSet()
_paused: list[HoldsFiles] = []
_busy: list[HoldsFiles] = []
_forking = threading.Lock()
_registered = False


def close_before_fork(holder: HoldsFiles) -> None:
    """Have ``holder`` paused at each fork from now on. To be called before it opens its first file."""
    global _registered
    with _forking:
        if not _registered and hasattr(os, "register_at_fork"):
            os.register_at_fork(before=_pause, after_in_parent=_resume, after_in_child=_begin)
            _registered = True
        _holders.add(holder)


def _pause() -> None:
    _forking.acquire()
    until = time.monotonic() + _SECONDS
    for holder in list(_holders):
        is_paused = holder.pause(max(0.0, until - time.monotonic()))
        (_paused if is_paused else _busy).append(holder)


def _begin() -> None:
    for holder in _busy:
        holder.abandon()
    _resume()


def _resume() -> None:
    _busy.clear()
    while _paused:
        _paused.pop().resume()
    _forking.release()
