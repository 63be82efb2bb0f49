"""What an answer cost, in US dollars.

Prices come from ``genai-prices``, which others keep current. Asking it for each answer would cost more than the rest
of our work on that answer, so each price list is *measured* once, by pricing a handful of made-up requests, and from
then on a cost is a few multiplications. Measuring rather than reading leaves its rules to it: which kinds of token have
a price, and what is charged for a kind that has none.

``genai-prices`` takes a third of a second to import. It is imported by the first ``rates_for``, which may be called
from any thread; call it from a worker thread where an event loop must not stall.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from lm_deluge.models.names import Model
from lm_deluge.usage import Usage

if TYPE_CHECKING:
    from decimal import Decimal

    from genai_prices.types import ModelInfo, ModelPrice

__all__ = ["Rates", "rates_for"]


class _Band(msgspec.Struct, frozen=True):
    """Dollars per request and per token while a request's input is above ``above`` tokens."""

    above: int
    request: float
    input: float
    cache_read: float
    cache_write: float
    cache_write_1h: float
    output: float
    reasoning: float


class Rates:
    """The prices of one model.

    Where a price depends on the date, on the time of day or on the length of the prompt, each cost is worked out with
    the price that applies. A kind of token without a price of its own costs what ``genai-prices`` makes of it: cache
    reads and writes without one cost the input price, writes for an hour without one cost the price of other writes,
    reasoning without one costs the output price.
    """

    __slots__ = ("_measured", "_model")

    def __init__(self, model: "ModelInfo") -> None:
        self._model = model
        # By the identity of price lists, which ``model`` keeps alive. Two threads may measure the same one; they agree.
        self._measured: dict[int, tuple[_Band, ...]] = {}

    def cost(self, usage: Usage, *, at: datetime | None = None) -> float:
        """What these tokens cost, in US dollars.

        Args:
            usage: the tokens of one request. Sums of several requests are wrong where long prompts cost more.
            at: when the request was made; now by default. A time without a zone is UTC.
        """
        band = self._band(usage.total_input_tokens, at)
        return (
            band.request
            + band.input * usage.input_tokens
            + band.cache_read * usage.cache_read_tokens
            + band.cache_write * (usage.cache_write_tokens - usage.cache_write_1h_tokens)
            + band.cache_write_1h * usage.cache_write_1h_tokens
            + band.output * (usage.output_tokens - usage.reasoning_tokens)
            + band.reasoning * usage.reasoning_tokens
        )

    def uncached_cost(self, usage: Usage, *, at: datetime | None = None) -> float:
        """What the same tokens would have cost without prompt caching: all input at the plain input price."""
        plain = msgspec.structs.replace(
            usage,
            input_tokens=usage.total_input_tokens,
            cache_read_tokens=0,
            cache_write_tokens=0,
            cache_write_1h_tokens=0,
        )
        return self.cost(plain, at=at)

    def _band(self, input_tokens: int, at: datetime | None) -> _Band:
        prices = self._model.prices
        if isinstance(prices, list):  # several lists, each for its dates or hours
            prices = self._model.get_prices(at or datetime.now(UTC))
        bands = self._measured.get(id(prices))
        if bands is None:
            bands = self._measured[id(prices)] = _measure(prices)
        return next((band for band in reversed(bands) if input_tokens > band.above), bands[0])


def rates_for(model: Model) -> Rates | None:
    """The prices of ``model``, or None where they are not known.

    The first call imports ``genai-prices`` (0.3 s); later ones for the same model take under a microsecond. The answer
    stays the same for the life of the process.
    """
    provider = model.service.price_provider
    return _rates(provider, model.api_name) if provider else None


@lru_cache(maxsize=1024)
def _rates(provider: str, api_name: str) -> Rates | None:
    import genai_prices

    try:
        found = genai_prices.calc_price(genai_prices.Usage(), api_name, provider_id=provider)
    except LookupError:
        return None
    # A model priced by the hour, the page or the image has nothing to say about tokens.
    priced = found.model_price.input_mtok is not None or found.model_price.output_mtok is not None
    return Rates(found.model) if priced else None


def _measure(prices: "ModelPrice") -> tuple[_Band, ...]:
    from genai_prices.types import TieredPrices

    starts = {tier.start for price in vars(prices).values() if isinstance(price, TieredPrices) for tier in price.tiers}
    return tuple(_measure_band(prices, above) for above in sorted({0, *starts}))


def _measure_band(prices: "ModelPrice", above: int) -> _Band:
    """Price requests that consist of one kind of token, just long enough to be in the band that starts ``above``."""
    import genai_prices

    def dollars(**tokens: int) -> "Decimal":
        return prices.calc_price(genai_prices.Usage(**tokens))["total_price"]

    size = above + 1
    request, plain = dollars(), dollars(input_tokens=size)

    def per_input_token(**kinds: int) -> float:
        return float((dollars(input_tokens=size, **kinds) - request) / size)

    return _Band(
        above,
        request=float(request),
        input=per_input_token(),
        cache_read=per_input_token(cache_read_tokens=size),
        cache_write=per_input_token(cache_write_tokens=size),
        cache_write_1h=per_input_token(cache_write_tokens=size, cache_write_1h_tokens=size),
        output=float(dollars(input_tokens=size, output_tokens=1) - plain),
        reasoning=float(dollars(input_tokens=size, output_tokens=1, output_reasoning_tokens=1) - plain),
    )
