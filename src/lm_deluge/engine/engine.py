"""Runs on one event loop, from their first event to their report."""

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence, Sized
from contextlib import aclosing

from lm_deluge.engine.batch import Batch
from lm_deluge.engine.estimating import estimate
from lm_deluge.engine.settings import RunOptions
from lm_deluge.engine.shared import Shared
from lm_deluge.engine.source import chunked
from lm_deluge.events import Event, RunFinished, RunReport, RunStarted
from lm_deluge.prompt import PromptLike
from lm_deluge.prompt_cache import Estimate, PromptCache
from lm_deluge.response import APIResponse

__all__ = ["Engine"]


class Engine:
    """A client's engine on one event loop."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def run(
        self,
        prompts: Iterable[PromptLike] | AsyncIterable[PromptLike],
        options: RunOptions,
        *,
        emit: Callable[[Event], None],
        on_report: Callable[[RunReport], None],
        first_id: int = 0,
        kept: bool = True,
    ) -> AsyncGenerator[list[APIResponse], None]:
        """Responses as they come, in lists; each prompt gets exactly one.

        Args:
            prompts: any iterable; it is read as fast as its prompts can be worked on.
            options: what holds for this run.
            emit: called with each event.
            on_report: called with the report when the run ends, however it ends.
            first_id: ``id`` of the first response.
            kept: whether the cache keeps an account of the run.
        """
        total = len(prompts) * options.samples if isinstance(prompts, Sized) else None
        batch = Batch(self._shared, options, emit, first_id=first_id, kept=kept)
        emit(RunStarted(total, tuple(model.name for model in self._shared.settings.models)))
        try:
            async with aclosing(batch.responses(chunked(prompts))) as responses:
                async for ready in responses:
                    yield ready
        finally:
            report = batch.report()
            on_report(report)
            emit(RunFinished(report))

    async def estimate(
        self,
        prompts: Iterable[PromptLike],
        options: RunOptions,
        caches: Sequence[PromptCache],
        *,
        output_tokens: int | None,
    ) -> Estimate:
        """What a run would cost with each way of caching at the provider. Nobody is asked."""
        return await estimate(self._shared, prompts, options, caches, output_tokens=output_tokens)
