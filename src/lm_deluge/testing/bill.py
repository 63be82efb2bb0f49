"""The provider's bill, worked out apart from the client's own accounting, so that it can judge it.

Prices come straight from ``genai-prices``, which is imported when somebody asks for a bill and not before: serving
counts how often each charge occurred, and no more. Charges are not added up, because where long prompts cost more, it
is the prompt of the single request that decides.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

__all__ = ["Bill", "Charge", "Served", "make_bill"]

Served: TypeAlias = tuple[tuple[str, str], ...]


class Charge(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one answer is charged for.

    Attributes:
        provider: whose prices hold: the provider whose wire format was spoken.
        model: the model's name as sent.
        served: what else decides the price, such as ``(("service_tier", "flex"),)``.
        uncached, read, write_5m, write_1h: prompt tokens, as in ``CacheOutcome``.
        output: generated tokens, those of all choices together.
    """

    provider: Literal["anthropic", "openai"]
    model: str
    served: Served = ()
    uncached: int = 0
    read: int = 0
    write_5m: int = 0
    write_1h: int = 0
    output: int = 0

    @property
    def cost(self) -> float | None:
        """US dollars at today's prices; None when the model has no known price."""
        price = self.price()
        return None if price is None else float(price.total_price)

    def price(self) -> "PriceCalculation | None":
        """What ``genai-prices`` makes of it; None when it does not know the model."""
        from genai_prices import Usage, calc_price

        write = self.write_5m + self.write_1h
        usage = Usage(
            input_tokens=self.uncached + self.read + write,
            cache_read_tokens=self.read,
            cache_write_tokens=write,
            cache_write_5m_tokens=self.write_5m,
            cache_write_1h_tokens=self.write_1h,
            output_tokens=self.output,
        )
        try:
            return calc_price(usage, self.model, provider_id=self.provider, price_context=dict(self.served))
        except LookupError:
            return None


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider charges for a number of answers.

    Attributes:
        cost: US dollars, at today's prices, for all answers whose model has a known price.
        prompt_cost, output_cost: the parts of ``cost`` for prompts and for what was generated.
        unpriced: the models that have no known price, in alphabetical order. ``cost`` leaves their answers out.
    """

    cost: float
    prompt_cost: float
    output_cost: float
    unpriced: tuple[str, ...] = ()


def make_bill(charges: Mapping[Charge, int]) -> Bill:
    """The bill for charges and how often each occurred. The first call takes a third of a second."""
    cost = prompt = output = Decimal(0)
    unpriced = set()
    for charge, count in charges.items():
        price = charge.price()
        if price is None:
            unpriced.add(charge.model)
            continue
        cost += price.total_price * count
        prompt += price.input_price * count
        output += price.output_price * count
    return Bill(
        cost=float(cost), prompt_cost=float(prompt), output_cost=float(output), unpriced=tuple(sorted(unpriced))
    )
