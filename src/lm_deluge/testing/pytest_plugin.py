"""The pytest fixture ``provider_emulator``. Loaded by pytest in every project that has this package installed, so
nothing but pytest is imported before a test asks for the fixture.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lm_deluge.testing.emulator import Emulator

__all__ = ["provider_emulator"]


@pytest.fixture
def provider_emulator(monkeypatch: pytest.MonkeyPatch) -> "Iterator[Emulator]":
    """A running provider emulator, fresh for each test.

    ``OPENAI_BASE_URL``, ``OPENAI_API_KEY``, ``ANTHROPIC_BASE_URL`` and ``ANTHROPIC_API_KEY`` point at it while the
    test runs, so clients that read them need no further set-up.
    """
    from lm_deluge.testing.emulator import Emulator

    with Emulator() as emulator:
        monkeypatch.setenv("OPENAI_BASE_URL", emulator.openai_base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "emulated")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator.anthropic_base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "emulated")
        yield emulator
