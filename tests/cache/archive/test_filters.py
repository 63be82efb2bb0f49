"""Which entries a filter chooses."""

from typing import Any, cast

import pytest

from lm_deluge.cache.admin.archive import Filter, entries
from lm_deluge.cache.entry import Facts, Stored
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores import ScanStore
from lm_deluge.cache.stores.mapping import MappingStore
from lm_deluge.errors import CacheError, ConfigError

from ..helpers import answer, prompt
from .making import NOW, entry, filled

RUNS = {7: Run(id=7, started=NOW, name="evening", tags=("eval", "gsm8k"))}
STORED = Stored(
    key=bytes.fromhex("ab" * 32),
    namespace="project-x",
    value=b"",
    facts=Facts(created=NOW, asked="gpt-4.1-mini", model="gpt-4.1-mini-2025-04-14", run=7),
)


@pytest.mark.parametrize(
    ("chosen", "passed_over"),
    [
        ({"namespace": "project-x"}, {"namespace": "project"}),
        ({"model": "gpt-4.1-mini"}, {"model": "gpt-4.1"}),
        ({"model": "*-2025-04-??"}, {"model": "claude-*"}),
        ({"older_than": NOW + 1}, {"older_than": NOW}),
        ({"newer_than": NOW}, {"newer_than": NOW + 1}),
        ({"run": "evening"}, {"run": "even"}),
        ({"run": 7}, {"run": 8}),
        ({"run": "7"}, {"run": ""}),
        ({"tag": "gsm8k"}, {"tag": "evening"}),
        ({"key": "aBaB"}, {"key": "ba"}),
        ({"key": "ab" * 32}, {"key": "ac"}),
        ({"namespace": "project-x", "tag": "eval"}, {"namespace": "project-x", "tag": "other"}),
    ],
)
def test_each_condition_has_to_hold(chosen: dict[str, Any], passed_over: dict[str, Any]) -> None:
    assert Filter().matches(STORED)
    assert Filter(**chosen).matches(STORED, RUNS)
    assert not Filter(**passed_over).matches(STORED, RUNS)


def test_an_entry_of_an_unknown_day_is_neither_old_nor_new() -> None:
    ageless = Stored(key=bytes(32), namespace="default", value=b"")
    assert not Filter(older_than=NOW).matches(ageless)
    assert not Filter(newer_than=0.0).matches(ageless)


@pytest.mark.parametrize("wrong", [{"key": "xyz"}, {"key": "a" * 97}, {"older_than": 1.0, "newer_than": 2.0}])
def test_a_filter_without_meaning_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Filter(**wrong)


def test_entries_come_from_the_store_newest_first() -> None:
    made = [entry(prompt(n), answer(n), created=NOW + n, run=n % 2 and 7) for n in range(10)]
    store = filled(*made)
    store.record_run(RUNS[7])
    found = list(entries(store, Filter(tag="eval", newer_than=NOW + 4), newest_first=True))
    assert [stored.key for stored in found] == [made[n].key for n in (9, 7, 5)]


def test_a_store_that_cannot_list_or_keeps_no_runs_says_so() -> None:
    class WithoutJournal(ScanStore):
        location = "there"

    with pytest.raises(CacheError, match="cannot list its entries"):
        list(entries(MappingStore({}, "default")))
    with pytest.raises(CacheError, match="keeps no runs"):
        list(entries(cast("Any", WithoutJournal()), Filter(tag="a")))
