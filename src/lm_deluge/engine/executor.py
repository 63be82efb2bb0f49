"""What gets items the answers that the local cache does not have.

A run looks its items up and leaves what is missing to an executor; how that gets the answers is its own affair. Calls
to a provider, one for each item, are one way.
"""

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lm_deluge._loops import a_loop_runs_here
from lm_deluge.engine.attempt import Attempts
from lm_deluge.engine.chunks import Outbox
from lm_deluge.engine.item import Item
from lm_deluge.engine.local_cache import LocalCache
from lm_deluge.engine.report import Reporter
from lm_deluge.engine.settings import RunOptions
from lm_deluge.engine.settle import Settler
from lm_deluge.engine.single_flight import Flights, SingleFlight
from lm_deluge.engine.state import EngineState
from lm_deluge.engine.target import Target
from lm_deluge.engine.warnings import why_missed
from lm_deluge.errors import LimitWarning, LMDelugeError, PromptCacheWarning, UnavailableError
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse
from lm_deluge.schedule import Window

__all__ = ["Executor", "Interactive"]

_log = logging.getLogger("lm_deluge")

_LEAST_PATIENCE = 300.0  # seconds, with others who fetch the same answer
_ENDED = "The call for this prompt was ended from outside, before it had an answer. Run it again."


class Executor(Protocol):
    """Takes the items of one run, and puts exactly one response for each into the run's outbox.

    An executor settles each answer that has arrived, even if the run has ended.
    """

    def begin(self) -> None:
        """Warn of what is known before the first item.

        Raises:
            Warning: where warnings are errors.
        """
        ...

    async def learn(self, items: Sequence[Item]) -> None:
        """See items that will be added, so that what they share is known before the first of them is executed."""
        ...

    def add(self, item: Item) -> None:
        """Take an item. Never waits."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether to wait for ``room`` before another item is added."""
        ...

    async def room(self) -> None:
        """Return when there is room for another item."""
        ...

    async def drain(self) -> None:
        """Return once each item that was added has its response."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether anything is being executed."""
        ...

    def stop(self) -> None:
        """Execute nothing more; what is in flight is cancelled, and gets no response. Never waits."""
        ...

    def refuse(self) -> None:
        """The client is closed: each item that is not in flight gets an error response."""
        ...

    async def finish(self) -> None:
        """Return once every answer that has arrived is stored, and everything is over. Warn of what was noticed."""
        ...


class Interactive:
    """The executor that calls a provider for each item.

    Workers take the items: as many as calls may be in flight, and a few more for those that wait for a retry.

    Args:
        parameters: what is asked beside the prompts, by the name of the model; empty where neither cache needs it.
    """

    def __init__(
        self,
        state: EngineState,
        options: RunOptions,
        parameters: Mapping[str, Parameters],
        *,
        local: LocalCache,
        outbox: Outbox,
        reporter: Reporter,
    ) -> None:
        self._state = state
        self._options = options
        self._local = local
        self._outbox = outbox
        self._counters = reporter.counters
        self._warnings = reporter.warnings
        self._targets = {
            model.name: Target(state, options, model, parameters.get(model.name)) for model in state.settings.models
        }
        self._settler = Settler(state, local, reporter)
        self._attempts = Attempts(self._settler, self._targets, on_rest=self._on_rest, on_wait=self._on_wait)
        self._single_flight = self._make_single_flight(parameters) if state.settings.single_flight else None
        self._most = state.settings.max_concurrent
        self._items: deque[Item] = deque()
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._working: dict[asyncio.Task[Any], Item] = {}
        self._window = Window(self._most)
        self._closing = False
        self._logged = False

    def begin(self) -> None:
        for target in self._targets.values():
            target.warn(self._warnings)

    async def learn(self, items: Sequence[Item]) -> None:
        # Duplicates that share one call are one prompt.
        asked = {item.digest: item for item in items}.values() if self._single_flight is not None else items
        for item in asked:
            if not self._state.pace.step():
                await self._state.pace.turn()
            for target in self._targets.values():
                target.learn(item.prompt)

    def add(self, item: Item) -> None:
        self._items.append(item)
        self._hire()

    @property
    def is_full(self) -> bool:
        return len(self._items) >= self._most

    async def room(self) -> None:
        while self.is_full:
            self._room.clear()
            await self._room.wait()

    async def drain(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def is_busy(self) -> bool:
        return bool(self._tasks)

    def stop(self) -> None:
        self._closing = True
        while self._items:
            self._state.pending.remove(self._items.popleft())
        for task in self._tasks:
            task.cancel()

    def refuse(self) -> None:
        for task, item in self._working.items():
            if not item.is_sent and item.arrival is None:
                task.cancel()

    async def finish(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._settler.all_stored()
        for target in self._targets.values():
            target.advise(self._warnings)
        cache = self._options.prompt_cache
        if cache is not None and not cache.goes_on and self._counters.has_reads:
            return  # the first prompts of groups, which differ from each other without anything being wrong
        for reason, answers in self._counters.miss_reasons.items():
            self._warnings.warn(("miss", reason), why_missed(reason, answers), PromptCacheWarning)

    def _hire(self) -> None:
        """Start another worker if there is work and a call more may be in flight."""
        if not self._closing and self._items and self._window.may_begin:
            self._window.begin()
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _on_rest(self, change: int) -> None:
        self._window.rest(change)
        if change > 0:
            self._hire()

    def _on_wait(self, change: int) -> None:
        self._window.wait(change)
        if change > 0:
            self._hire()

    async def _work(self) -> None:
        try:
            while self._items and self._window.may_go_on:
                item = self._items.popleft()
                self._room.set()
                await self._execute(item)
                if self._outbox.is_full and not self._closing:
                    await self._outbox.room()
        finally:
            self._window.end()

    async def _execute(self, item: Item) -> None:
        """Get an item its response. There is exactly one, however the attempts end."""
        task = asyncio.current_task()
        if task is not None:
            self._working[task] = item
        response: APIResponse | None = None
        try:
            if self._single_flight is not None:
                response = await self._single_flight.answer(item, self._attempts.answer)
            else:
                response = await self._attempts.answer(item)
        except LMDelugeError as error:
            if isinstance(error, UnavailableError):
                self._warnings.warn("gave up", str(error), LimitWarning)
            response = self._settler.failed(item, str(error))
        except GeneratorExit:
            self._closing = self._closing or not a_loop_runs_here()  # it is gone, and with it all who wait
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            self._outbox.fail(error)  # it ends the run, out of whose caller it comes
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                closed = self._state.client.closed
                if self._closing or closed is None:
                    raise
                task.uncancel()
                response = self._settler.failed(item, closed)
            else:
                response = self._unexpected(item, error)
        finally:
            if task is not None:
                del self._working[task]
            self._state.pending.remove(item)
            if response is None and not self._closing:
                response = self._settler.failed(item, _ENDED)
            if response is not None:
                self._outbox.add(response)

    def _unexpected(self, item: Item, error: BaseException) -> APIResponse:
        if not self._logged:
            self._logged = True
            # As text, without what an exception of a user's transport may repeat.
            trace = self._settler.secrets.hide("".join(traceback.format_exception(error)))
            _log.error("prompt %d failed; further failures of this run are not logged\n%s", item.id, trace)
        said = f": {error}" if str(error) else ", which says nothing more"
        return self._settler.failed(item, self._settler.secrets.hide(f"Unexpected {type(error).__name__}{said}"))

    def _make_single_flight(self, parameters: Mapping[str, Parameters]) -> SingleFlight:
        # Without a cache, the prompt alone does not say what is asked; and a run that refreshes must not get what was
        # asked before it began. So these share among their own calls only.
        shares = self._local.keeps and self._local.mode == "use"
        # Prompts of runs with other parameters, or another idea of what is fresh, meet in the cache at the earliest,
        # where that is noticed.
        salt = b"".join(each.fingerprint for each in parameters.values())
        settings = self._state.settings
        return SingleFlight(
            self._state.flights if shares else Flights(),
            self._state.keeper(self._local) if shares else None,
            self._local,
            salt=salt + repr(self._options.max_age).encode(),
            on_wait=self._on_wait,
            patience=max(_LEAST_PATIENCE, 2 * settings.retry.max_attempts * settings.request_timeout),
        )
