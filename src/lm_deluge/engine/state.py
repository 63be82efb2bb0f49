"""What the runs of one client share: on all event loops, and on each."""

import asyncio
import logging
import os
import random
import threading
import weakref
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from lm_deluge._clock import Clock
from lm_deluge._locks import renewed
from lm_deluge._secrets import Secrets, says_what_is_asked
from lm_deluge._threads import Threads
from lm_deluge.cache.leases import LeaseKeeper
from lm_deluge.cache.user import Opener
from lm_deluge.engine.local_cache import LocalCache, Pending
from lm_deluge.engine.report import Account, Accounts
from lm_deluge.engine.settings import CacheMode, Settings
from lm_deluge.engine.single_flight import Flights
from lm_deluge.engine.warnings import Advisor
from lm_deluge.errors import ClosedError
from lm_deluge.models import Model, Rates, credential, rates_for
from lm_deluge.prompt_cache import PrefixIndexes, RoutingKeys
from lm_deluge.prompt_cache.write_audit import WriteLog
from lm_deluge.schedule import Choice, Gate, Limits, Pace, PrefixScheduler, Ticket
from lm_deluge.transport import Transport

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["ClientState", "EngineState"]

_log = logging.getLogger("lm_deluge")

_price_thread = Threads("lm_deluge prices", most=1)


class Closable(Protocol):
    """A run, whose client may be closed meanwhile."""

    def refuse(self) -> None:
        """Give every prompt that is not in flight its error. From any thread."""
        ...


class ProviderCaching:
    """What a client knows of its providers' prompt caches. Shared by its runs, in all threads."""

    def __init__(self) -> None:
        self.prefixes: PrefixScheduler[Ticket] = PrefixScheduler()
        self.routing_keys = RoutingKeys()
        self.indexes = PrefixIndexes()
        self.advisor = Advisor()
        self.write_log = WriteLog()
        self.told: set[str] = set()  # addresses that a key is sent to and that were warned of


class ClientState:
    """What the runs of one client share on all event loops, in all threads.

    Attributes:
        settings: how the client sends.
        cache: opens the local cache for a run; None where there is none.
        limits: requests and tokens a minute, and pauses.
        choice: among several models.
        transport: what sends HTTP.
        clock: what tells the time and waits.
        caching: what is known of the providers' prompt caches.
        accounts: of the runs that span calls.
        closed: why nothing is asked any more; None as long as the client is in use.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        cache: Opener | None,
        limits: Limits,
        choice: Choice[Model],
        transport: Transport,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.cache = cache
        self.limits = limits
        self.choice = choice
        self.transport = transport
        self.clock = clock
        self.caching = ProviderCaching()
        self.accounts = Accounts()
        self.closed: str | None = None
        self._engines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, EngineState] = weakref.WeakKeyDictionary()
        self._lock = renewed(threading.Lock())

    def engine(self) -> "EngineState":
        """What the runs on the event loop that runs here share."""
        loop = asyncio.get_running_loop()
        with self._lock:
            engine = self._engines.get(loop)
            if engine is None:
                # It holds its loop, so the entry of a loop that is over does not go by itself.
                for over in [old for old in self._engines if old.is_closed()]:
                    del self._engines[over]
                engine = self._engines[loop] = EngineState(self, random.Random())
            return engine

    def account(self, name: str | None, tags: tuple[str, ...]) -> Account:
        """The account of the run to which single prompts with a name and tags belong."""
        return self.accounts.get(name, tags, tuple(model.name for model in self.settings.models), self.clock)

    def engines(self) -> "list[EngineState]":
        """Those of all event loops."""
        with self._lock:
            return list(self._engines.values())

    def close(self, reason: str) -> None:
        """Nothing more is asked: a new run is refused for this reason, and runs that go on ask nothing more."""
        self.closed = reason
        for engine in self.engines():
            for run in list(engine.runs):
                run.refuse()

    def check_open(self) -> None:
        """Raise if nothing may be asked any more.

        Raises:
            ClosedError: the client is closed.
        """
        if self.closed is not None:
            raise ClosedError(self.closed)


class EngineState:
    """What the runs of one client share on one event loop.

    Args:
        client: what they share with all others of the client.
        rng: spreads waits.
    """

    def __init__(self, client: ClientState, rng: random.Random) -> None:
        self.client = client
        self.settings = client.settings
        self.limits = client.limits
        self.transport = client.transport
        self.clock = client.clock
        self.rng = rng
        self.runs: weakref.WeakSet[Closable] = weakref.WeakSet()
        self.pending = Pending()
        self.flights = Flights()
        self.caching = client.caching
        self._keeper: LeaseKeeper | None = None
        self.gate = Gate(
            self.limits, self.caching.prefixes, max_concurrent=self.settings.max_concurrent, clock=self.clock, rng=rng
        )
        self.pace = Pace()
        self._rates: dict[str, Future[Rates | None]] = {}

    def pick_model(self) -> Model:
        """The model for the next call; one that is paused only if all are."""
        if len(self.settings.models) == 1:
            return self.settings.models[0]
        now = self.clock.monotonic()
        return self.client.choice.pick(self.rng, is_paused=lambda model: self.limits.paused_for(model.name, now) > 0)

    def look_up_rates(self, model: Model) -> "Future[Rates | None]":
        """Find a model's prices, or None. That takes a quarter of a second, once, while a thread waits for it."""
        look_up = self._rates.get(model.name)
        if look_up is None:
            look_up = self._rates[model.name] = _price_thread.submit(lambda: _rates_or_none(model))
        return look_up

    async def rates(self, model: Model) -> Rates | None:
        """A model's prices, or None, once they are known."""
        look_up = self.look_up_rates(model)
        # Shielded: the look-up belongs to all calls, and the one that waits here may be cancelled.
        return look_up.result() if look_up.done() else await asyncio.shield(asyncio.wrap_future(look_up))

    def credential(self, model: Model) -> str | None:
        """The API key for a model: the client's own, or that of the environment as it is now."""
        return self.settings.api_key or credential(model.service, os.environ)

    def secrets(self) -> Secrets:
        """What is sent with requests and must not be told: the credentials of all models, and values of headers."""
        return Secrets([*filter(None, map(self.credential, self.settings.models)), *self.secret_headers.values()])

    @cached_property
    def secret_headers(self) -> dict[str, str]:
        """Headers of the user's that may hold a credential, with their values."""
        shown = self.settings.public_headers
        return {
            name: str(value)
            for name, value in self.settings.extra_headers.items()
            if not says_what_is_asked(name) and name.lower() not in shown
        }

    def opener(self, mode: CacheMode) -> Opener | None:
        """What opens the local cache for a run in a mode; None if the run has none."""
        return None if mode == "bypass" else self.client.cache

    def keeper(self, local: LocalCache) -> LeaseKeeper | None:
        """The leases that this client holds on this event loop."""
        if self._keeper is None:
            self._keeper = local.new_keeper()
        return self._keeper


def _rates_or_none(model: Model) -> Rates | None:
    try:
        return rates_for(model)
    except BaseException:  # noqa: BLE001 - an answer without a price is still an answer; its cost is None, and that is warned of
        _log.exception("the prices of %s could not be looked up", model.name)
        return None
