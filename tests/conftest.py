"""Fixtures that every part of the suite uses."""

import asyncio
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from lm_deluge import LLMClient
from lm_deluge.testing import Emulator

from .timeline import Timeline

HIGH = {"max_requests_per_minute": 10_000_000, "max_tokens_per_minute": 10_000_000_000}

SDKS = ("anthropic", "openai", "mistralai", "openrouter")  # they judge our work and are no part of it

# A shell has interrupts ignored in what it runs in the background, and processes of the tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("suite", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


class InstantClock:
    """Time that passes at once: a sleep moves it and returns."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_800_000_000.0 + self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def sdk_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an official SDK warns of is no failure of ours: a model that it calls deprecated, say.

    A filter would not do, as an SDK warns in the name of whoever called it. So the one who warns decides.
    """
    warn = warnings.warn

    def heard(message: Any, category: Any = None, stacklevel: int = 1, source: Any = None, **named: Any) -> None:
        if sys._getframe(1).f_globals["__name__"].partition(".")[0] not in SDKS:
            warn(message, category, stacklevel + 1, source, **named)

    monkeypatch.setattr(warnings, "warn", heard)


@pytest.fixture
def instant_clock() -> InstantClock:
    return InstantClock()


@pytest.fixture
def emulator(provider_emulator: Emulator) -> Emulator:
    """The provider emulator, which the environment variables of the official SDKs point at."""
    return provider_emulator


@pytest.fixture
def make_client(emulator: Emulator) -> Iterator[Any]:
    """Makes clients of the emulator: quiet, with limits out of the way, closed at the end."""
    clients: list[LLMClient] = []

    def make(model: str | list[str] = "gpt-4.1-mini", **arguments: Any) -> LLMClient:
        clients.append(LLMClient(model, **{**HIGH, **arguments}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def make_timeline() -> Iterator[Any]:
    """Makes providers whose time is driven."""
    timelines: list[Timeline] = []

    def make(**arguments: Any) -> Timeline:
        timelines.append(Timeline(**arguments))
        return timelines[-1]

    yield make
    for timeline in timelines:
        timeline.close()


@pytest.fixture(autouse=True, scope="session")
def spill_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Answers that a cache does not take stay out of the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_DELUGE_SPILL", str(tmp_path_factory.mktemp("spill")))
        yield
