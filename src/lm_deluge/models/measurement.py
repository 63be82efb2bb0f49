"""The measurement of what ``genai-prices`` charges, so that no other module has to import it.

A price list is priced with a handful of made-up requests, each long enough for one band of prompt length and made of
one kind of token. Measuring rather than reading leaves the rules to ``genai-prices``: which kinds of token have a
price, and what is charged for a kind that has none. Where a model has several lists, each stretch of days and hours is
asked for its own, and so is each processing tier that the list has prices for.

The import takes a fifth of a second of the interpreter's time and 30 MB, which is why ``prices`` has this module
imported in a process of its own.
"""

import gc
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

import genai_prices
import msgspec
from genai_prices.types import ModelPrice, StartDateConstraint, TieredPrices, TimeOfDateConstraint

from lm_deluge._optional import NEWER
from lm_deluge.errors import LMDelugeError
from lm_deluge.models.rates import Band, Rates
from lm_deluge.models.tiers import tier_of

if TYPE_CHECKING:
    from decimal import Decimal

    from genai_prices.types import ModelInfo, PriceVariant

__all__ = ["main", "measure", "measure_model"]

_EPOCH = date(1970, 1, 1)
_STANDARD: Mapping[str, str] = {}
# Under these names the list keeps processing tiers. Others tell routes and kinds of search apart.
_TIER_NAMES = ("processing", "service_tier", "speed")


def main(provider: str, api_name: str) -> None:
    """Write the prices of one model to standard output, as JSON."""
    gc.disable()  # a short life, and no garbage worth a search
    sys.stdout.buffer.write(msgspec.json.encode(measure(provider, api_name)))


def measure(provider: str, api_name: str) -> Rates | None:
    """The prices of a model, or None where it is not known or has no price for tokens.

    Raises:
        LMDelugeError: they depend on something that is not known here.
    """
    try:
        found = genai_prices.calc_price(genai_prices.Usage(), api_name, provider_id=provider)
    except LookupError:
        return None
    # A model priced by the hour, the page or the image has nothing to say about tokens.
    if found.model_price.input_mtok is None and found.model_price.output_mtok is None:
        return None
    rates = measure_model(found.model)
    # A model may be found in its maker's list, when somebody else sells it: at the standard price, in no other tier.
    is_own = any(each is found.model for each in found.provider.models)
    return rates if is_own else msgspec.structs.replace(rates, tiers={})


def measure_model(model: "ModelInfo") -> Rates:
    """All price lists of a model, in all tiers, and when each holds."""
    tiers = {tier: _measure_tier(model, context) for tier, context in _tiers(model)}
    return msgspec.structs.replace(_measure_tier(model, _STANDARD), tiers=tiers)


def _tiers(model: "ModelInfo") -> Iterator[tuple[str, Mapping[str, str]]]:
    """The tiers that have a price by now, each with what asks the list for it.

    One whose price is still to come, or depends on something that is not known here, has none: the list would answer
    with the standard price.
    """
    for context in {tuple(variant.when.items()): variant.when for variant in model.price_variants or ()}.values():
        (name, word), *more = context.items()
        tier = tier_of(word)
        if name not in _TIER_NAMES or tier is None or more:
            continue
        constraints = [variant.constraint for variant in _variants(model, context)]
        if all(map(_is_known, constraints)) and any(map(_has_begun, constraints)):
            yield tier, context


def _variants(model: "ModelInfo", context: Mapping[str, str]) -> "list[PriceVariant]":
    return [variant for variant in model.price_variants or () if variant.when == context]


def _is_known(constraint: object) -> bool:
    return constraint is None or isinstance(constraint, StartDateConstraint | TimeOfDateConstraint)


def _has_begun(constraint: object) -> bool:
    return not isinstance(constraint, StartDateConstraint) or constraint.active(datetime.now(UTC))


def _measure_tier(model: "ModelInfo", context: Mapping[str, str]) -> Rates:
    constraints = [variant.constraint for variant in _variants(model, context)]
    if not isinstance(model.prices, ModelPrice):
        constraints += [conditional.constraint for conditional in model.prices]
    days, times = _borders(model.id, constraints)
    # A moment of each stretch is its beginning; before the first border there is only the time before.
    from_days = [days[0] - timedelta(days=1), *days] if days else [_EPOCH]
    from_times = [time.min, *times]
    lists: list[ModelPrice] = []
    chosen = []
    for day in from_days:
        row = []
        for start in from_times:
            prices = model.get_prices(datetime.combine(day, start, tzinfo=UTC), context)
            if prices not in lists:
                lists.append(prices)
            row.append(lists.index(prices))
        chosen.append(tuple(row))
    return Rates(
        days=tuple(days), times=tuple(times), chosen=tuple(chosen), lists=tuple(_measure_list(each) for each in lists)
    )


def _borders(model_id: str, constraints: Iterable[object]) -> tuple[list[date], list[time]]:
    """The days and the times of day (UTC) at which another price list may begin to hold."""
    days, times = set(), set()
    for constraint in constraints:
        match constraint:
            case None:
                pass
            case StartDateConstraint(start_date=day):
                days.add(day)
            case TimeOfDateConstraint(start_time=start, end_time=end):
                times |= {_in_utc(start), _in_utc(end)}
            case other:
                raise LMDelugeError(
                    f"The prices of {model_id!r} depend on a {type(other).__name__}, which is not known here. {NEWER}"
                )
    return sorted(days), sorted(times - {time.min})


def _in_utc(value: time) -> time:
    return value if value.tzinfo is None else datetime.combine(_EPOCH, value).astimezone(UTC).time()


def _measure_list(prices: ModelPrice) -> tuple[Band, ...]:
    starts = {tier.start for price in vars(prices).values() if isinstance(price, TieredPrices) for tier in price.tiers}
    return tuple(_measure_band(prices, above) for above in sorted({0, *starts}))


def _measure_band(prices: ModelPrice, above: int) -> Band:
    """Price requests that consist of one kind of token, just long enough to be in the band that starts ``above``."""

    def dollars(**tokens: int) -> "Decimal":
        return prices.calc_price(genai_prices.Usage(**tokens))["total_price"]

    size = above + 1
    request, plain = dollars(), dollars(input_tokens=size)

    def per_input_token(**kinds: int) -> float:
        return float((dollars(input_tokens=size, **kinds) - request) / size)

    return Band(
        above,
        request=float(request),
        input=per_input_token(),
        cache_read=per_input_token(cache_read_tokens=size),
        cache_write=per_input_token(cache_write_tokens=size),
        cache_write_1h=per_input_token(cache_write_tokens=size, cache_write_1h_tokens=size),
        output=float(dollars(input_tokens=size, output_tokens=1) - plain),
        reasoning=float(dollars(input_tokens=size, output_tokens=1, output_reasoning_tokens=1) - plain),
    )
