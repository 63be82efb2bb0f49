"""Runs on one event loop, from their first event to their report."""

from collections.abc import AsyncIterable, Callable, Iterable, Sequence

from lm_deluge.engine.estimating import estimate
from lm_deluge.engine.run import Run
from lm_deluge.engine.settings import RunOptions
from lm_deluge.engine.state import EngineState
from lm_deluge.events import Event, RunReport
from lm_deluge.prompt import PromptLike
from lm_deluge.prompt_cache import Estimate, PromptCache

__all__ = ["Engine"]


class Engine:
    """A client's engine on one event loop."""

    def __init__(self, state: EngineState) -> None:
        self._state = state

    def run(
        self,
        prompts: Iterable[PromptLike] | AsyncIterable[PromptLike],
        options: RunOptions,
        *,
        emit: Callable[[Event], None],
        on_report: Callable[[RunReport], None],
        first_id: int = 0,
        kept: bool = True,
    ) -> Run:
        """A run. ``Run`` says what the arguments are."""
        return Run(self._state, prompts, options, emit=emit, on_report=on_report, first_id=first_id, kept=kept)

    def refuse(self) -> None:
        """The client is closed. From any thread."""
        self._state.refuse()

    async def estimate(
        self,
        prompts: Iterable[PromptLike],
        options: RunOptions,
        caches: Sequence[PromptCache],
        *,
        output_tokens: int | None,
    ) -> Estimate:
        """What a run would cost with each way of caching at the provider. Nobody is asked."""
        return await estimate(self._state, prompts, options, caches, output_tokens=output_tokens)
