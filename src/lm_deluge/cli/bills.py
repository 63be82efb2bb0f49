"""Bills of the ways of caching, as people read them: a table, what is best, and what all of it rests on."""

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from inspect import signature
from typing import Any

from lm_deluge import LLMClient
from lm_deluge.cli.output import make_console
from lm_deluge.cli.table import Column, filled, numbers, print_table
from lm_deluge.cli.terminal import shown
from lm_deluge.prompt_cache import PATTERNS
from lm_deluge.prompt_cache.estimate import Bill, Estimate, Forecast
from lm_deluge.text import NOTHING, counted, duration, money

__all__ = ["IMAGE_TOKENS", "are_same", "price_list", "print_bills"]

IMAGE_TOKENS = 1_600
"""What an estimate counts for an image."""

_PRICES = "genai-prices"
_WORTH_TELLING = 0.005  # of a bill; less than that is below what can be known
_SHORT = 60  # seconds
_MOST = 0.999  # of a cold run can be read: one prompt has to come first


def are_same(one: Bill, other: Bill) -> bool:
    """Whether two bills come to the same."""
    return math.isclose(one.weight, other.weight, rel_tol=1e-9)


def price_list() -> str:
    """Which prices are counted with."""
    return f"{_PRICES} {version(_PRICES)}"


def print_bills(estimate: Estimate, given: Mapping[str, Any], *, samples: int, why_alike: str | None) -> None:
    """Print what a run with these arguments of the client would cost.

    ``why_alike`` says why every pattern has the bill that there is without any; it is None where one has another.
    """
    console = make_console()
    asked = estimate.prompts - estimate.hits - estimate.unusable
    by = "the local cache or by another's call" if "single_flight" in given else "the local cache"
    if not asked:
        if estimate.hits:
            console.print(f"Nothing to pay: {counted(estimate.hits, 'prompt')}, answered by {by}.")
        return
    hits = f"; {counted(estimate.hits, 'more is', 'more are')} answered by {by}" if estimate.hits else ""
    rows = f" Each row counts {samples:,} times, once for each sample." if samples > 1 else ""
    console.print(f"{counted(asked, 'prompt')} to {shown(estimate.model)}{hits}.{rows}")
    none, best = estimate[None], estimate.best
    is_priced = none.cold.cost is not None
    if why_alike is None:
        columns = _priced(estimate) if is_priced else _unpriced(estimate)
        print_table(columns, console=console, bold=estimate.forecasts.index(best))
        console.print(_verdict(best, none))
    else:
        console.print(f"{_one_bill(estimate)}: {why_alike}.")
    for advice in estimate.advice if why_alike is None else ():
        console.print(advice)
    if pace := _pace(estimate, given):
        console.print(pace)
    console.print()
    for note in _notes(estimate, is_priced=is_priced, are_compared=why_alike is None):
        console.print(note, style="dim")


def _priced(estimate: Estimate) -> list[Column]:
    forecasts = estimate.forecasts
    cold = [each.cold.cost or 0.0 for each in forecasts]
    warm = [each.warm.cost or 0.0 for each in forecasts]
    return [
        _names(forecasts),
        Column(name="cold", cells=[money(cost, beside=cold + warm) for cost in cold], right=True),
        _changes(estimate),
        Column(name="warm", cells=[money(cost, beside=cold + warm) for cost in warm], right=True),
        *_counts(forecasts),
    ]


def _unpriced(estimate: Estimate) -> list[Column]:
    usages = [each.cold.usage for each in estimate.forecasts]
    tokens = [
        numbers("input", [usage.input_tokens for usage in usages], rank=1),
        numbers("written", [usage.cache_write_tokens for usage in usages]),
        numbers("read", [usage.cache_read_tokens for usage in usages]),
    ]
    return [_names(estimate.forecasts), _changes(estimate), *filled(tokens), *_counts(estimate.forecasts)]


def _names(forecasts: Sequence[Forecast]) -> Column:
    return Column(name="pattern", cells=[each.name for each in forecasts])


def _changes(estimate: Estimate) -> Column:
    none = estimate[None].cold
    changes = [each.cold.weight / none.weight - 1 if none.weight else 0.0 for each in estimate.forecasts]
    cells = [f"{change:+.1%}" if abs(change) >= 0.0005 else NOTHING for change in changes]
    return Column(name="vs none", cells=cells, right=True)


def _counts(forecasts: Sequence[Forecast]) -> list[Column]:
    shares = [f"{min(each.cold.hit_ratio, _MOST):.1%}" if each.cold.reads else NOTHING for each in forecasts]
    counts = [
        numbers("writes", [each.cold.writes for each in forecasts], rank=2),
        numbers("reads", [each.cold.reads for each in forecasts], rank=3),
        Column(name="read share", cells=shares, right=True),
    ]
    return filled(counts)


def _verdict(best: Forecast, none: Forecast) -> str:
    if best.pattern is None:
        return "Best: none; no pattern compared makes it cheaper."
    share = 1 - best.cold.weight / none.cold.weight
    if best.cold.cost is None or none.cold.cost is None:
        return f"Best: {best.name} saves about {share:.1%} of what the prompts cost."
    saved = f"Best: {best.name} saves {money(none.cold.cost - best.cold.cost)} ({share:.1%})"
    again = f"; the same again, while it is warm, costs {money(best.warm.cost)}"
    again += "." if best.warm.weight <= none.warm.weight else f", and {money(none.warm.cost)} without a pattern."
    if best.unwarmed is None or best.unwarmed.weight < best.cold.weight * (1 + _WORTH_TELLING):
        return saved + again
    unwarmed = f"{money(best.unwarmed.cost)}{_beside(best.unwarmed, none)}"
    return f"{saved}{again} With --cache-warm never it would cost {unwarmed}."


def _beside(bill: Bill, none: Forecast) -> str:
    """What a bill means that is no smaller than the one without a pattern."""
    if are_same(bill, none.cold):
        return ", as without a pattern"
    return ", more than without a pattern" if bill.weight > none.cold.weight else ""


def _one_bill(estimate: Estimate) -> str:
    none = estimate[None]
    compared = [each.pattern for each in estimate.forecasts if each.pattern is not None]
    if len(compared) == len(PATTERNS):
        same, nothing = "with every pattern and without one", "No pattern makes a difference"
    else:
        names = " or ".join(compared)
        same, nothing = f"with {names} as without", f"With {names} it costs the same"
    if none.cold.cost is None:
        return nothing
    again = "" if are_same(none.warm, none.cold) else f" ({money(none.warm.cost)} for the same again, right after)"
    return f"It costs {money(none.cold.cost)}{again}, {same}"


def _pace(estimate: Estimate, given: Mapping[str, Any]) -> str | None:
    """How long the run takes, where that is worth a word."""
    if estimate.seconds <= _SHORT:
        return None
    takes = f"At these limits the run takes at least {duration(estimate.seconds)}"
    name = estimate.held_back_by
    if name is None:
        return f"{takes}."
    limit = given.get(name, signature(LLMClient).parameters[name].default)
    return f"{takes}; --{name.replace('_', '-')} ({limit:,}) holds it back."


def _notes(estimate: Estimate, *, is_priced: bool, are_compared: bool) -> Iterator[str]:
    if are_compared:
        if is_priced:
            yield (
                "cold: the provider's cache holds nothing of the prompts yet; warm: the same prompts once more, right "
                "after. The counts are those of the cold run."
            )
        else:
            yield "The provider's cache is taken to hold nothing of the prompts yet."
        yield "Requests go out as a run would send them, limits included, and an answer takes five seconds."
    answers = (
        "Answers are not in the bill; --output-tokens N adds them."
        if estimate.output_tokens is None
        else f"Each answer counts {counted(estimate.output_tokens, 'token')}."
    )
    yield f"Tokens are estimated: four bytes of text count as one, an image as {IMAGE_TOKENS:,}. {answers}"
    if is_priced:
        yield f"List prices of {price_list()}."
    elif are_compared:
        written = ", what is written a quarter more" if any(each.cold.writes for each in estimate.forecasts) else ""
        yield (
            f"No price is known for {shown(estimate.model)}, so the usual multiples are compared: what is read counts "
            f"a tenth of other input{written}."
        )
    else:
        yield f"No price is known for {shown(estimate.model)}."
