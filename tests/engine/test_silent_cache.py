"""The short form of ``silent_cache``: a run ends soon beside a cache that does not, and nothing is bought twice."""

from pathlib import Path

import pytest

from lm_deluge.cache.stores.mapping import MappingStore
from lm_deluge.cache.stores.redis import RedisStore

from ..stress import silent_cache

CASES = [case for case in silent_cache.CASES if case not in ("none", "redis 0.5 s a command")]


@pytest.mark.parametrize("single_flight", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_run_beside_a_cache_that_is_away(
    case: str, single_flight: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LM_DELUGE_SPILL", str(tmp_path / "spill"))
    for store in (RedisStore, MappingStore):
        monkeypatch.setattr(store, "patience", 0.5)
    monkeypatch.setattr("lm_deluge.cache.user._PATIENCE", 0.5)
    monkeypatch.setattr("lm_deluge.cache.breaker._PAUSE", 0.1)
    outcome = silent_cache.measure(case, 60, single_flight=single_flight, latency=0.05, pause=0.2)
    assert (outcome.answers, outcome.stored, outcome.paid_again) == (60, 60, 0)
    assert outcome.calls == 60
    assert list((tmp_path / "spill").glob("*")) == []
