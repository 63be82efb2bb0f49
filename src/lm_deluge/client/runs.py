"""The runs of one client: how each begins, and what all of them did."""

import logging
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from operator import attrgetter
from typing import get_args

from lm_deluge._locks import renewed
from lm_deluge.engine import ClientState, Run, RunOptions
from lm_deluge.errors import ConfigError
from lm_deluge.events import Event, Listener, RunFinished, RunReport
from lm_deluge.progress import ProgressStyle, listener
from lm_deluge.prompt import PromptLike, as_prompts
from lm_deluge.response import APIResponse

__all__ = ["Prompts", "Runs"]

_log = logging.getLogger("lm_deluge")

Prompts = PromptLike | Iterable[PromptLike]


class Runs:
    """Begins a client's runs and adds up their reports.

    Args:
        state: the client's.
        progress: how progress is shown.
        listeners: called with each event of each run.

    Attributes:
        last: the report of the last run over many prompts; None before the first has ended.

    Raises:
        ConfigError: there is no such way of showing progress.
    """

    def __init__(self, state: ClientState, *, progress: ProgressStyle, listeners: Sequence[Listener]) -> None:
        if progress not in get_args(ProgressStyle):
            raise ConfigError(f"progress={progress!r} is not known; use 'rich', 'tqdm' or 'manual'.")
        self._state = state
        self._progress = progress
        self._listeners = tuple(listeners)
        self._lock = renewed(threading.Lock())
        self._total = RunReport()
        self.last: RunReport | None = None

    @property
    def total(self) -> RunReport:
        """What all runs that are over did and cost, single prompts included."""
        with self._lock:
            return self._total

    def over(self, prompts: Prompts | AsyncIterable[PromptLike], options: RunOptions, *, show_progress: bool) -> Run:
        """A run over many prompts."""
        source = prompts if isinstance(prompts, AsyncIterable) else as_prompts(prompts)
        shown = listener(self._progress) if show_progress else None
        listeners: tuple[Listener, ...] = self._listeners if shown is None else (*self._listeners, shown)
        run = Run(self._state.engine(), source, options, emit=_to_all(listeners, self._keep))
        if shown is not None:
            run.at_end(shown.close)
        return run

    async def collect(
        self, prompts: Prompts | AsyncIterable[PromptLike], options: RunOptions, *, show_progress: bool
    ) -> list[APIResponse]:
        """The responses of a run over many prompts, in their order."""
        responses: list[APIResponse] = []
        async with self.over(prompts, options, show_progress=show_progress) as run:
            while ready := await run.take():
                responses.extend(ready)
        responses.sort(key=attrgetter("id") if options.samples == 1 else attrgetter("id", "sample"))
        return responses

    async def one(self, prompt: PromptLike, options: RunOptions, id: int) -> APIResponse:
        """The response to a single prompt. It belongs to a run that spans all single prompts of its name and tags."""
        run = Run(
            self._state.engine(),
            [prompt],
            options,
            emit=_to_all(self._listeners, self._add),
            first_id=id,
            account=self._state.account(options.run_name, options.tags),
        )
        responses: list[APIResponse] = []
        async with run:
            while ready := await run.take():
                responses += ready
        return responses[0]

    def _keep(self, report: RunReport) -> None:
        self.last = report
        self._add(report)

    def _add(self, report: RunReport) -> None:
        with self._lock:
            self._total += report


def _to_all(listeners: Sequence[Listener], on_report: Callable[[RunReport], None]) -> Listener:
    """A listener that passes each event on to all of these; one that raises is logged and left out from then on.

    The report at the end goes to ``on_report`` first, which does not raise.
    """
    live = list(listeners)

    def emit(event: Event) -> None:
        if isinstance(event, RunFinished):
            on_report(event.report)
        for listen in live[:]:
            try:
                listen(event)
            except (KeyboardInterrupt, SystemExit):
                raise  # it ends the run, out of whose caller it comes
            except BaseException:  # noqa: BLE001 - a broken display must not cost answers that are paid for
                live.remove(listen)
                _log.exception("a listener raised on %s and is not called any more in this run", type(event).__name__)

    return emit
