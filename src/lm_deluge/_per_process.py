"""State that a forked child must not share with its parent: locks and threads."""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["PerProcess"]

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value that each process makes for itself, on first use.

    A child keeps what it inherited without using it: its locks may be held by threads that the child does not have.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._pid = os.getpid()
        self._value = make()
        self._inherited: list[T] = []

    def get(self) -> T:
        if self._pid != os.getpid():
            self._inherited.append(self._value)
            self._value, self._pid = self._make(), os.getpid()
        return self._value

    @property
    def is_own(self) -> bool:
        """Whether this process made the value that is held now."""
        return self._pid == os.getpid()
