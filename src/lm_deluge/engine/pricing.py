"""What answers cost: prices looked up once for each model, and what has none said once."""

from lm_deluge.engine.report import Counters
from lm_deluge.engine.state import EngineState
from lm_deluge.engine.warnings import Warnings
from lm_deluge.errors import ModelWarning
from lm_deluge.models import Model, Rates
from lm_deluge.usage import Usage

__all__ = ["Pricing"]


class Pricing:
    """The prices of one run."""

    def __init__(self, state: EngineState, warnings: Warnings, counters: Counters) -> None:
        self._state = state
        self._warnings = warnings
        self._counters = counters

    async def rates(self, model: Model, tier: str | None) -> Rates | None:
        """The prices of a model in the tier that its answer was processed in, or None."""
        return self.in_tier(model, await self.standard(model), tier)

    async def standard(self, model: Model) -> Rates | None:
        """The prices of a model, or None, once they are known."""
        known = await self._state.rates(model)
        if not self._state.pace.step():  # all that waited go on in this moment
            await self._state.pace.turn()
        return known

    def in_tier(self, model: Model, standard: Rates | None, tier: str | None) -> Rates | None:
        """A model's prices in a tier. If they are not known, that is said once."""
        rates = None if standard is None else standard.for_tier(tier)
        if rates is None and model.service.price_provider is not None:
            at = "" if standard is None else f" in service tier {tier!r}"
            remedy = "Check the name, or upgrade" if standard is None else "Upgrade"
            self._warnings.warn(
                ("price", model.name, tier),
                f"No price is known for {model.name!r}{at}; the cost of such answers is None. "
                f"{remedy} the price list with: pip install -U genai-prices",
                ModelWarning,
            )
        return rates

    async def charge(self, model: Model, usage: Usage, tier: str | None, *, was_wanted: bool) -> Rates | None:
        """Put what was paid without an answer on the account. Returns the prices.

        Args:
            model: which model was asked.
            usage: what it charged.
            tier: at which tier.
            was_wanted: whether an answer was asked for, so that it would have been paid without prompt caching too.
        """
        rates = await self.rates(model, tier)
        if rates is None:
            self._counters.add_unanswered(usage, cost=None, uncached_cost=None)
        else:
            uncached = rates.uncached_cost(usage) if was_wanted else 0.0
            self._counters.add_unanswered(usage, cost=rates.cost(usage), uncached_cost=uncached)
        return rates
