"""Measuring what ``genai-prices`` charges, so that nobody else has to import it.

A price list is priced with a handful of made-up requests, each long enough for one band of prompt length and made of
one kind of token. Measuring rather than reading leaves the rules to ``genai-prices``: which kinds of token have a
price, and what is charged for a kind that has none. Where a model has several lists, each stretch of days and hours is
asked for its own.

The import takes a fifth of a second of the interpreter's time and 30 MB, which is why ``prices`` has this module
imported in a process of its own.
"""

import gc
import sys
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

import genai_prices
import msgspec
from genai_prices.types import ModelPrice, StartDateConstraint, TieredPrices, TimeOfDateConstraint

from lm_deluge.errors import LMDelugeError
from lm_deluge.models.prices import Band, Rates

if TYPE_CHECKING:
    from decimal import Decimal

    from genai_prices.types import ModelInfo

__all__ = ["main", "measure", "measure_model"]

_EPOCH = date(1970, 1, 1)


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
    priced = found.model_price.input_mtok is not None or found.model_price.output_mtok is not None
    return measure_model(found.model) if priced else None


def measure_model(model: "ModelInfo") -> Rates:
    """All price lists of a model, and when each holds."""
    days, times = _borders(model)
    # A moment of each stretch is its beginning; before the first border there is only the time before.
    from_days = [days[0] - timedelta(days=1), *days] if days else [_EPOCH]
    from_times = [time.min, *times]
    lists: list[ModelPrice] = []
    chosen = []
    for day in from_days:
        row = []
        for start in from_times:
            prices = model.get_prices(datetime.combine(day, start, tzinfo=UTC))
            if not any(prices is known for known in lists):
                lists.append(prices)
            row.append(next(index for index, known in enumerate(lists) if known is prices))
        chosen.append(tuple(row))
    return Rates(
        days=tuple(days), times=tuple(times), chosen=tuple(chosen), lists=tuple(_measure_list(each) for each in lists)
    )


def _borders(model: "ModelInfo") -> tuple[list[date], list[time]]:
    """The days and the times of day (UTC) at which another price list may begin to hold."""
    days, times = set(), set()
    for conditional in [] if isinstance(model.prices, ModelPrice) else model.prices:
        match conditional.constraint:
            case None:
                pass
            case StartDateConstraint(start_date=day):
                days.add(day)
            case TimeOfDateConstraint(start_time=start, end_time=end):
                times |= {_in_utc(start), _in_utc(end)}
            case other:
                raise LMDelugeError(
                    f"The prices of {model.id!r} depend on a {type(other).__name__}, which is not known here. "
                    "Upgrade lm_deluge."
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
