"""Single prompts that were started and not yet waited for."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from lm_deluge.errors import ConfigError
from lm_deluge.response import APIResponse

__all__ = ["Tasks"]


class Tasks:
    """Tasks by id. Each response is handed out once, so a service that runs for weeks does not pile them up."""

    def __init__(self) -> None:
        self._ids = itertools.count()
        self._running: dict[int, asyncio.Task[APIResponse]] = {}

    def new_id(self) -> int:
        """An id that no task had before."""
        return next(self._ids)

    def start(self, answer: Callable[[int], Coroutine[Any, Any, APIResponse]]) -> int:
        """Run ``answer(task_id)`` on the running event loop and return the id."""
        task_id = self.new_id()
        self._running[task_id] = asyncio.get_running_loop().create_task(answer(task_id))
        return task_id

    async def wait_for(self, task_id: int) -> APIResponse:
        """The response of a task.

        Raises:
            ConfigError: there is no such task, or its response was taken before.
        """
        task = self._get(task_id)
        # Shielded: a waiter that gives up does not take the call down, and may wait again.
        response = await asyncio.shield(task)
        self._running.pop(task_id, None)
        return response

    async def wait_for_all(self, task_ids: Sequence[int] | None) -> list[APIResponse]:
        """The responses of several tasks, in their order; of all that are left for None."""
        ids = self._known(task_ids)
        return [await self.wait_for(task_id) for task_id in ids]

    async def as_completed(self, task_ids: Sequence[int] | None) -> AsyncIterator[tuple[int, APIResponse]]:
        """Ids and responses as tasks finish; of all that are left for None."""
        waiting = {self._get(task_id): task_id for task_id in self._known(task_ids)}
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task_id = waiting.pop(task)
                yield task_id, await self.wait_for(task_id)

    def _known(self, task_ids: Sequence[int] | None) -> list[int]:
        ids = list(self._running) if task_ids is None else list(task_ids)
        for task_id in ids:
            self._get(task_id)  # an unknown one is reported before anything is waited for
        return ids

    def _get(self, task_id: int) -> "asyncio.Task[APIResponse]":
        task = self._running.get(task_id)
        if task is None:
            raise ConfigError(f"There is no task {task_id}: it was never started, or its response was already taken.")
        return task
