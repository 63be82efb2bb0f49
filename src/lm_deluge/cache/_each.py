"""Lookups one by one, in objects of which nothing is known but ``get``. One that fails is one miss."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from lm_deluge.cache.found import Found

__all__ = ["look_up_all", "look_up_each"]

T = TypeVar("T")

_AT_ONCE = 64
_FAILURES_IN_A_ROW = 3


def look_up_each(
    look_up: Callable[[T], Found], items: Sequence[T], *, gives_up: Callable[[Exception], bool] = lambda _: False
) -> list[Found]:
    """One after another. After a few failures in a row the rest are not asked: each might be a timeout of its own.

    Args:
        look_up: gives what there is for an item, or raises.
        items: what to look up.
        gives_up: whether an exception is raised on rather than counted as a miss.
    """
    found: list[Found] = []
    in_a_row = 0
    for item in items:
        if in_a_row == _FAILURES_IN_A_ROW:
            found.append(Found(failure="not asked, because the lookups before it failed"))
            continue
        try:
            outcome = look_up(item)
        except Exception as error:
            if gives_up(error):
                raise
            outcome = _failed(error)
        in_a_row = 0 if outcome.failure is None else in_a_row + 1
        found.append(outcome)
    return found


async def look_up_all(look_up: Callable[[T], Awaitable[Found]], items: Sequence[T]) -> list[Found]:
    """Side by side, a limited number at once."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(item: T) -> Found:
        async with gate:
            try:
                return await look_up(item)
            except Exception as error:  # noqa: BLE001 - one failed lookup is one miss; the engine counts it
                return _failed(error)

    return list(await asyncio.gather(*(one(item) for item in items)))


def _failed(error: Exception) -> Found:
    return Found(failure=f"{type(error).__name__}: {error}")
