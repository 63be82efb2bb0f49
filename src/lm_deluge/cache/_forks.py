"""Closing files before a fork, so that no open file is carried into the child.

SQLite keeps its locks for the whole process. A child that inherits an open connection believes that it holds locks
which only its parent holds; when the parent then closes the file, what the child commits afterwards is lost, although
the child opened connections of its own. So whoever holds such a file closes it first and opens it again when needed,
in the parent as in the child.
"""

import os
import threading
import weakref
from typing import Protocol

__all__ = ["HoldsFiles", "close_before_fork"]


class HoldsFiles(Protocol):
    """Something with open files behind a lock."""

    def pause(self) -> None:
        """Take the lock, and close the files."""
        ...

    def resume(self) -> None:
        """Release the lock. Called in the parent and in the child, by the thread that called ``pause``."""
        ...


_holders: "weakref.WeakSet[HoldsFiles]" = weakref.WeakSet()
_paused: list[HoldsFiles] = []
_forking = threading.Lock()
_registered = False


def close_before_fork(holder: HoldsFiles) -> None:
    """Have ``holder`` paused at each fork from now on. To be called before it opens its first file."""
    global _registered
    with _forking:
        if not _registered and hasattr(os, "register_at_fork"):
            os.register_at_fork(before=_pause, after_in_parent=_resume, after_in_child=_resume)
            _registered = True
        _holders.add(holder)


def _pause() -> None:
    _forking.acquire()
    for holder in list(_holders):
        holder.pause()
        _paused.append(holder)


def _resume() -> None:
    while _paused:
        _paused.pop().resume()
    _forking.release()
