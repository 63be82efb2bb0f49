"""What an answer cost, in US dollars.

Prices come from ``genai-prices``, which others keep current. Asking it for each answer would cost more than the rest
of our work on that answer, so a model's price lists are *measured* once (see ``measurement``), and from then on a cost
is a few multiplications.

Importing ``genai-prices`` holds the interpreter for a fifth of a second, from whatever thread, and leaves 30 MB that
every garbage collection goes through. So a child process does it, and sends back the few figures that matter.
"""

import logging
import os
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from functools import lru_cache
from pathlib import Path

import msgspec

from lm_deluge._json import JsonReader
from lm_deluge.models.names import Model
from lm_deluge.models.tiers import tier_of
from lm_deluge.usage import Usage

__all__ = ["Band", "Rates", "rates_for"]

_log = logging.getLogger("lm_deluge")

# The child finds modules where this process does, however that came about.
_CHILD = "import sys; sys.path[:] = sys.argv[3:]; from lm_deluge.models.measurement import main; main(*sys.argv[1:3])"
_CHILD_SECONDS = 20.0
# It runs nothing that the environment or a site directory names, whatever flags this process has.
_ISOLATED = ("-I", "-S")
# And it sees what programs need to start, and no API key.
_ENVIRON = ("DYLD_", "LANG", "LC_", "LD_", "PATH", "SYSTEMROOT", "TEMP", "TMP", "TZ", "__PYVENV_LAUNCHER__")


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


def rates_for(model: Model, tier: str | None = None) -> Rates | None:
    """The prices of ``model``, or None where they are not known.

    The first call for a model blocks while a child process measures its prices, those of all tiers (0.25 s); later
    ones take about a microsecond. The answer stays the same for the life of the process.

    A tier without a price of its own has none: faster tiers cost more than standard and slower ones less, so the
    standard price would be wrong.

    Args:
        model: whose prices.
        tier: the processing tier, as in ``Rates.for_tier``.

    Raises:
        LMDelugeError: the prices depend on something that this version does not know.
    """
    provider = model.service.price_provider
    rates = _rates(provider, model.api_name) if provider else None
    return None if rates is None else rates.for_tier(tier)


@lru_cache(maxsize=1024)
def _rates(provider: str, api_name: str) -> Rates | None:
    # Where it is imported already nothing is saved, and its user may have given it prices of his own.
    if "genai_prices" not in sys.modules and _is_python(sys.executable):
        try:
            return _measure_in_child(provider, api_name)
        except (OSError, ValueError, subprocess.SubprocessError, msgspec.MsgspecError) as error:
            _log.info("no child process could look up prices (%s), so this one does", type(error).__name__)
    from lm_deluge.models.measurement import measure

    return measure(provider, api_name)


def _is_python(executable: str | None) -> bool:
    """Whether a program takes Python code. A frozen application, or one with Python inside, would start once more."""
    return Path(executable or "").name.lower().startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


def _written() -> list[str]:
    """Where this process writes compiled modules, if anywhere, as flags."""
    if sys.dont_write_bytecode:
        return ["-B"]
    return [] if sys.pycache_prefix is None else ["-X", f"pycache_prefix={sys.pycache_prefix}"]


def _measure_in_child(provider: str, api_name: str) -> Rates | None:
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, *_ISOLATED, *_written(), "-c", _CHILD, provider, api_name, *map(str, sys.path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        close_fds=False,  # none is inheritable, and so the child is spawned rather than forked where that is possible
        timeout=_CHILD_SECONDS,
        env={name: value for name, value in os.environ.items() if name.startswith(_ENVIRON)},
        check=True,
    )
    reader: JsonReader[Rates | None] = JsonReader(Rates | None)
    return reader.read(done.stdout)
