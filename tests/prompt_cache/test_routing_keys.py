"""Requests spread over routing keys: as few as the rate allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_deluge.prompt_cache import RoutingKeys


def test_a_minute_fills_one_key_after_the_other():
    keys = RoutingKeys()
    assert [keys.pick("key", 3, now) for now in range(8)] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_the_next_minute_begins_with_the_first_key_again():
    keys = RoutingKeys()
    assert [keys.pick("key", 2, now) for now in (0, 1, 2, 59.9, 60, 61, 62)] == [0, 0, 1, 1, 0, 0, 1]


def test_each_prefix_has_its_own_count():
    keys = RoutingKeys()
    assert [keys.pick(key, 1, 0) for key in "abab"] == [0, 0, 1, 1]


def test_without_a_limit_one_key_takes_all():
    keys = RoutingKeys()
    assert {keys.pick("key", None, now) for now in range(1_000)} == {0}
    assert len(keys) == 0


@given(
    st.lists(st.floats(0, 30), max_size=200),
    st.integers(1, 20),
)
def test_no_key_gets_more_in_its_minute_than_it_takes(gaps, limit):
    keys, now, began, given_out = RoutingKeys(), 0.0, None, {}
    for gap in gaps:
        now += gap
        if began is None or now - began >= 60:
            began, given_out = now, {}
        shard = keys.pick("key", limit, now)
        given_out[shard] = given_out.get(shard, 0) + 1
        assert given_out[shard] <= limit
        assert sorted(given_out) == list(range(len(given_out)))


@pytest.mark.parametrize("step", [0.0, 1.0])
def test_memory_is_bounded(step):
    keys = RoutingKeys()
    for number in range(40_000):
        keys.pick(str(number), 15, number * step)
    assert len(keys) <= 16_384
