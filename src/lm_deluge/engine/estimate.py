"""What a run would cost: prompts as a run would take them, without the local cache's hits, and no provider asked."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal

import msgspec

from lm_deluge._threads import in_thread
from lm_deluge.cache.found import RunContext
from lm_deluge.engine import chunks
from lm_deluge.engine.chunks import prepare
from lm_deluge.engine.item import Item
from lm_deluge.engine.local_cache import LocalCache, Pending
from lm_deluge.engine.report import Reporter
from lm_deluge.engine.settings import RunOptions, Settings, parameters_of, share_of, too_large
from lm_deluge.engine.simulator import RunPlan, forecast
from lm_deluge.engine.state import EngineState
from lm_deluge.engine.target import planner_for
from lm_deluge.models import Rates
from lm_deluge.prompt import PromptLike
from lm_deluge.prompt_cache import Estimate, Planner, PromptCache, advise, lifetime_differs, unsupported
from lm_deluge.providers import wire_format
from lm_deluge.request import Parameters, Request

__all__ = ["estimate"]

_LOOKED_AT = 16  # prompts that advice goes by
_WORTH_TELLING = 60.0  # seconds


async def estimate(
    state: EngineState,
    prompts: Iterable[PromptLike],
    options: RunOptions,
    caches: Sequence[PromptCache],
    *,
    output_tokens: int | None,
) -> Estimate:
    """The bill of each way of caching, that of none at all first.

    Args:
        state: the client's, which has one model.
        prompts: any iterable.
        options: what would hold for the run.
        caches: the ways of caching to compare.
        output_tokens: tokens of each answer; None leaves answers out.
    """
    (model,) = state.settings.models
    parameters = parameters_of(state.settings, options)[model.name]
    # As a run of its own would see it, with a reporter that is not read.
    local = LocalCache(
        state.opener(options.cache_mode),
        RunContext(parameters=(parameters,), max_age=options.max_age, samples=options.samples),
        Pending(),
        mode=options.cache_mode,
        reporter=Reporter(),
        clock=state.clock,
    )
    misses: list[Item] = []
    known: set[bytes] = set()
    number = hits = unusable = 0
    problem: str | None = None
    iterator = iter(prompts)
    while chunk := list(islice(iterator, chunks.MOST)):
        items: list[Item] = []
        for prepared in await prepare(chunk):
            if isinstance(prepared, str):
                unusable += options.samples
                problem = problem or prepared
            else:
                items += [Item(number, prepared, 0.0, sample=sample) for sample in range(options.samples)]
            number += 1
        missed = [item for item, hit in zip(items, await local.look_up(items), strict=True) if hit is None]
        if state.settings.single_flight:
            missed = list(_first_of_each(missed, known))
        hits += len(items) - len(missed)
        if options.cache_mode == "offline":  # then no provider is asked
            continue
        for item in missed:
            too_many = too_large(item.prompt.count_tokens(), state.limits.tokens_per_minute)
            if too_many is None:
                misses.append(item)
            else:
                unusable += 1
                problem = problem or too_many
    result = Estimate(
        model=model.name,
        prompts=number * options.samples,
        hits=hits,
        unusable=unusable,
        problem=problem,
        output_tokens=output_tokens,
    )
    rates = await state.rates(model)
    return await in_thread(lambda: _forecasts(result, state, options, parameters, misses, caches, rates))


def _forecasts(
    result: Estimate,
    state: EngineState,
    options: RunOptions,
    parameters: Parameters,
    misses: Sequence[Item],
    caches: Sequence[PromptCache],
    rates: Rates | None,
) -> Estimate:
    settings, limits = state.settings, state.limits
    (model,) = settings.models
    run = RunPlan(
        prompts=[item.prompt for item in misses],
        tokens=[item.prompt.count_tokens() for item in misses],
        model=model,
        tools=options.tools,
        scope=parameters.fingerprint,
        at_once=settings.max_concurrent,
        can_prefill=_can_prefill(settings, options, misses),
        rates=rates,
        shares=[share_of(item.prompt.count_tokens(), settings.params, limits.tokens_per_minute) for item in misses],
        output_tokens=result.output_tokens or 0,
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
    )
    found = []
    for cache in (None, *caches):
        planner = planner_for(settings, options, cache, model, parameters)
        expected = forecast(run, cache, planner)
        advice = () if cache is None else _advice(run, cache, planner, is_read=expected.cold.reads > 0)
        found.append(msgspec.structs.replace(expected, advice=advice))
    seconds = run.seconds
    by_tokens = run.minutes_by_tokens > run.minutes_by_requests
    limit: Literal["max_tokens_per_minute", "max_requests_per_minute"]
    limit = "max_tokens_per_minute" if by_tokens else "max_requests_per_minute"
    return msgspec.structs.replace(
        result, forecasts=tuple(found), seconds=seconds, held_back_by=limit if seconds > _WORTH_TELLING else None
    )


def _advice(run: RunPlan, cache: PromptCache, planner: Planner | None, *, is_read: bool) -> tuple[str, ...]:
    """What a run would warn of. The planner has learned the prompts."""
    if planner is None:
        return (unsupported(cache, run.model).message,)
    planned = [(prompt, planner.plan(prompt)) for prompt in dict.fromkeys(run.prompts[:_LOOKED_AT])]
    found = [lifetime_differs(cache, run.model)]
    found += advise(
        cache, run.model, run.tools, planned, reserved=planner.reserved, answers=len(run.prompts), is_read=is_read
    )
    return tuple(each.message for each in found if each is not None)


def _can_prefill(settings: Settings, options: RunOptions, items: Sequence[Item]) -> bool:
    """Whether prompts that are asked like this can be written to the provider's cache without an answer."""
    model = settings.models[0]
    return bool(items) and wire_format(model).can_prefill(
        Request(
            conversation=items[0].prompt,
            model=model,
            params=settings.params,
            tools=options.tools,
            tool_choice=options.tool_choice,
            output_schema=options.output_schema,
        )
    )


def _first_of_each(items: Sequence[Item], known: set[bytes]) -> Iterator[Item]:
    """Items without those that another has asked: identical prompts share one call."""
    for item in items:
        if item.digest not in known:
            known.add(item.digest)
            yield item
