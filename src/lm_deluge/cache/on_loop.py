"""Awaiting from the writer's thread, on the event loop that a coroutine belongs to.

A client of a database may be bound to its loop, so that loop is tried first. If it has ended or does not run, the
coroutine is awaited on a new loop, so that the answer has a chance to be stored.
"""

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

__all__ = ["all_on"]

_LOOK_SECONDS = 0.1

Loop = asyncio.AbstractEventLoop


def all_on(calls: Sequence[tuple[Loop | None, Callable[[], Awaitable[Any]]]]) -> list[BaseException | None]:
    """Make all calls, those of one loop concurrently; the outcome of each."""
    outcomes: list[BaseException | None] = [None] * len(calls)
    by_loop: dict[Loop | None, list[int]] = {}
    for position, (loop, _) in enumerate(calls):
        by_loop.setdefault(loop, []).append(position)
    for loop, positions in by_loop.items():
        found = _run(loop, [calls[position][1] for position in positions])
        for position, outcome in zip(positions, found, strict=True):
            outcomes[position] = outcome
    return outcomes


async def _gather(calls: Sequence[Callable[[], Awaitable[Any]]]) -> list[BaseException | None]:
    async def one(call: Callable[[], Awaitable[Any]]) -> None:
        await call()

    return list(await asyncio.gather(*map(one, calls), return_exceptions=True))


def _run(loop: Loop | None, calls: Sequence[Callable[[], Awaitable[Any]]]) -> list[BaseException | None]:
    if loop is not None and loop.is_running():
        gathering = _gather(calls)
        try:
            future = asyncio.run_coroutine_threadsafe(gathering, loop)
        except RuntimeError:  # just closed
            gathering.close()
        else:
            done = False
            while not done and loop.is_running():
                done = bool(concurrent.futures.wait([future], _LOOK_SECONDS).done)
            if future.done() and not future.cancelled():
                return future.result()
            future.cancel()
    return asyncio.run(_gather(calls))
