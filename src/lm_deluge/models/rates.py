"""What tokens cost, in US dollars: the price lists of a model as plain figures, and the arithmetic over them."""

from bisect import bisect_right
from collections.abc import Mapping
from datetime import UTC, date, datetime, time

import msgspec

from lm_deluge.models.tiers import tier_of
from lm_deluge.usage import Usage

__all__ = ["Band", "Rates"]


class Band(msgspec.Struct, frozen=True):
    """Dollars per request and per token while a request's input is above ``above`` tokens."""

    above: int
    request: float
    input: float
    cache_read: float
    cache_write: float
    cache_write_1h: float
    output: float
    reasoning: float


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """The prices of one model, for standard processing and for other tiers.

    Where a price depends on the date, on the time of day or on the length of the prompt, each cost is worked out with
    the price that applies. A kind of token without a price of its own costs what ``genai-prices`` makes of it: cache
    reads and writes without one cost the input price, writes for an hour without one cost the price of other writes,
    reasoning without one costs the output price.

    Attributes:
        lists: price lists; each is made of bands, that of the shortest prompts first.
        days: in order, the days (UTC) at which another list may begin to hold.
        times: the same for times of day (UTC).
        chosen: which list holds: a row for the time before the first day and from each day on, and in it a column for
            the time before the first time of day and from each on.
        tiers: the prices of other processing tiers, by the provider's word for each. Ask ``for_tier``.
    """

    lists: tuple[tuple[Band, ...], ...]
    days: tuple[date, ...] = ()
    times: tuple[time, ...] = ()
    chosen: tuple[tuple[int, ...], ...] = ((0,),)
    tiers: Mapping[str, "Rates"] = {}

    def for_tier(self, tier: str | None) -> "Rates | None":
        """The prices of a processing tier, or None where they are not known.

        Args:
            tier: in the provider's words, such as ``"batch"`` or ``"priority"``; None, ``"default"``, ``"standard"``,
                ``"on_demand"`` and ``"auto"`` are standard processing.
        """
        special = tier_of(tier)
        return self if special is None else self.tiers.get(special)

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

    def _band(self, input_tokens: int, at: datetime | None) -> Band:
        bands = self.lists[0 if len(self.lists) == 1 else self._list_at(at)]
        return next((band for band in reversed(bands) if input_tokens > band.above), bands[0])

    def _list_at(self, at: datetime | None) -> int:
        moment = datetime.now(UTC) if at is None else at if at.tzinfo is None else at.astimezone(UTC)
        row = self.chosen[bisect_right(self.days, moment.date())]
        return row[bisect_right(self.times, moment.time())]
