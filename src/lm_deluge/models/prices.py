"""The prices of a model, from ``genai-prices``.

Others keep ``genai-prices`` current. Asking it for each answer would cost more than the rest of our work on that
answer, so a model's price lists are *measured* once (see ``measurement``), and from then on a cost is a few
multiplications (see ``rates``).

Importing ``genai-prices`` holds the interpreter for a fifth of a second, from any thread, and leaves 30 MB that every
garbage collection goes through. So a child process does it, and sends back the few figures that matter.
"""

import logging
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import msgspec

from lm_deluge._json import JsonReader
from lm_deluge.models.names import Model
from lm_deluge.models.rates import Rates

__all__ = ["rates_for"]

_log = logging.getLogger("lm_deluge")

# The child finds modules where this process does, however that came about.
_CHILD = "import sys; sys.path[:] = sys.argv[3:]; from lm_deluge.models.measurement import main; main(*sys.argv[1:3])"
_CHILD_SECONDS = 20.0
# It runs nothing that the environment or a site directory names, with any flags of this process.
_ISOLATED = ("-I", "-S")
# And it sees what programs need to start, and no API key.
_ENVIRON = ("DYLD_", "LANG", "LC_", "LD_", "PATH", "SYSTEMROOT", "TEMP", "TMP", "TZ", "__PYVENV_LAUNCHER__")


def rates_for(model: Model, tier: str | None = None) -> Rates | None:
    """The prices of ``model``, or None where they are not known.

    The first call for a model blocks while a child process measures its prices, those of all tiers (0.25 s); later
    ones take about a microsecond. The answer stays the same for the life of the process.

    A tier without a price of its own has none: faster tiers cost more than standard and slower ones less, so the
    standard price would be wrong.

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
