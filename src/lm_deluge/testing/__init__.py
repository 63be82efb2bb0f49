"""Tools for tests: a provider emulator, a clock that tests drive, real prompts, conformance suites.

Everything is imported when it is first used, so that importing this package costs nothing. The emulator needs the
``server`` extra, the conformance suites the ``testing`` extra.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_deluge.testing.bill import Bill, Charge
    from lm_deluge.testing.clock import FakeClock
    from lm_deluge.testing.dataset import gsm8k
    from lm_deluge.testing.emulator import Emulator, serve
    from lm_deluge.testing.faults import Fault
    from lm_deluge.testing.gate import Gate
    from lm_deluge.testing.stats import Stats
    from lm_deluge.testing.stores import StoreConformance
    from lm_deluge.testing.tokens import count_tokens
    from lm_deluge.testing.transports import TransportConformance
    from lm_deluge.testing.values import (
        Answer,
        AnswerToolCall,
        CacheOutcome,
        ParsedRequest,
        RecordedRequest,
        Responder,
    )

__all__ = [
    "Answer",
    "AnswerToolCall",
    "Bill",
    "CacheOutcome",
    "Charge",
    "Emulator",
    "FakeClock",
    "Fault",
    "Gate",
    "ParsedRequest",
    "RecordedRequest",
    "Responder",
    "Stats",
    "StoreConformance",
    "TransportConformance",
    "count_tokens",
    "gsm8k",
    "serve",
]

_HOMES = {
    "bill": ("Bill", "Charge"),
    "clock": ("FakeClock",),
    "dataset": ("gsm8k",),
    "emulator": ("Emulator", "serve"),
    "faults": ("Fault",),
    "gate": ("Gate",),
    "stats": ("Stats",),
    "stores": ("StoreConformance",),
    "tokens": ("count_tokens",),
    "transports": ("TransportConformance",),
    "values": ("Answer", "AnswerToolCall", "CacheOutcome", "ParsedRequest", "RecordedRequest", "Responder"),
}


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
