"""Many items, a few at a time."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

__all__ = ["batched"]

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """As ``itertools.batched`` of Python 3.12, but lists."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some
