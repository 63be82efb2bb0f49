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
    "Answer": "values",
    "AnswerToolCall": "values",
    "Bill": "bill",
    "CacheOutcome": "values",
    "Charge": "bill",
    "Emulator": "emulator",
    "FakeClock": "clock",
    "Fault": "faults",
    "Gate": "gate",
    "ParsedRequest": "values",
    "RecordedRequest": "values",
    "Responder": "values",
    "Stats": "stats",
    "StoreConformance": "stores",
    "TransportConformance": "transports",
    "count_tokens": "tokens",
    "gsm8k": "dataset",
    "serve": "emulator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
