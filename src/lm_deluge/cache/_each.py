"""Lookups one by one, in objects that have ``get`` and nothing else. A lookup that fails is one miss."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from lm_deluge._threads import made_progress
from lm_deluge.cache.found import Found
from lm_deluge.errors import CacheError

__all__ = ["all_failed_is_failure", "look_up_all", "look_up_each", "lookups_of", "one_went_well"]

T = TypeVar("T")

_AT_ONCE = 64
_FAILURES_IN_A_ROW = 3


def look_up_each(
    look_up: Callable[[T], Found], items: Sequence[T], *, gives_up: Callable[[Exception], bool] = lambda _: False
) -> list[Found]:
    """Lookups in sequence. After a few failures in a row the others are not made: each could be another timeout.

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
        made_progress()
    return found


class _AllFailed(CacheError):
    """All of several lookups failed, so the cache itself fails."""

    def __init__(self, found: list[Found]) -> None:
        super().__init__(found[0].failure)
        self.found = found


def all_failed_is_failure(found: list[Found]) -> list[Found]:
    """The lookups as they are.

    Raises:
        CacheError: all lookups failed.
    """
    if found and all(item.failure is not None for item in found):
        raise _AllFailed(found)
    return found


def lookups_of(error: CacheError) -> list[Found]:
    """The lookups that all failed, with what is said of that for the first one.

    Raises:
        CacheError: the error, if it is about something else.
    """
    if not isinstance(error.__cause__, _AllFailed):
        raise error
    return [Found(failure=str(error)), *error.__cause__.found[1:]]


def one_went_well(outcomes: list[BaseException | None]) -> list[BaseException | None]:
    """The outcomes of calls as they are.

    Raises:
        BaseException: all calls failed; the error of the first one.
    """
    if outcomes and outcomes[0] is not None and all(outcomes):
        raise outcomes[0]
    return outcomes


async def look_up_all(look_up: Callable[[T], Awaitable[Found]], items: Sequence[T]) -> list[Found]:
    """Concurrent lookups, a limited number at once."""
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
