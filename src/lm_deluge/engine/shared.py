"""What the runs of one client share on one event loop."""

import asyncio
import os
import random
from collections.abc import Callable, Sequence

from lm_deluge._clock import Clock
from lm_deluge.cache.user import EngineCache
from lm_deluge.engine.ledger import Ledger
from lm_deluge.engine.local import Pending
from lm_deluge.engine.settings import Settings
from lm_deluge.events import Event, HitsServed
from lm_deluge.models import Model, Rates, credential, rates_for
from lm_deluge.response import APIResponse
from lm_deluge.schedule import Choice, Gate, Limits
from lm_deluge.transport import Transport

__all__ = ["Shared"]


class Shared:
    """Limits, transport, prices and the cache of a client."""

    def __init__(
        self,
        settings: Settings,
        *,
        cache: EngineCache | None,
        limits: Limits,
        choice: Choice[Model],
        transport: Transport,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.settings = settings
        self.cache = cache
        self.limits = limits
        self.transport = transport
        self.clock = clock
        self.rng = rng
        self.pending = Pending()
        self.gate = Gate(limits, max_concurrent=settings.max_concurrent, clock=clock, rng=rng)
        self._choice = choice
        self._rates: dict[str, asyncio.Future[Rates | None]] = {}

    def pick_model(self) -> Model:
        """The model for the next call; one that is paused only if all are."""
        now = self.clock.monotonic()
        return self._choice.pick(self.rng, is_paused=lambda model: self.limits.paused_for(model.name, now) > 0)

    def look_up_rates(self, model: Model) -> None:
        """Start finding a model's prices. The price list takes a third of a second to import: once, in a thread."""
        if model.name not in self._rates:
            self._rates[model.name] = asyncio.ensure_future(asyncio.to_thread(rates_for, model))

    async def rates(self, model: Model) -> Rates | None:
        """The prices of a model, or None if they are not known."""
        self.look_up_rates(model)
        # Shielded: the look-up belongs to all calls, and the one that waits here may be cancelled.
        return await asyncio.shield(self._rates[model.name])

    def credential(self, model: Model) -> str | None:
        """The API key for a model: the client's own, or that of the environment as it is now."""
        return self.settings.api_key or credential(model.service, os.environ)

    @staticmethod
    def count_hits(ledger: Ledger, hits: Sequence[APIResponse], emit: Callable[[Event], None]) -> None:
        """Put local hits on the books."""
        if hits:
            emit(HitsServed(len(hits), ledger.add_hits(hits)))
