"""Token buckets, pauses, retries and the choice of a model: pure, so time is a number that the test writes down."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_deluge.errors import ConfigError
from lm_deluge.schedule import Choice, Limits, RetryPolicy


def limits(requests: float = 60, tokens: float = 6_000) -> Limits:
    return Limits(requests_per_minute=requests, tokens_per_minute=tokens)


def test_a_minutes_worth_starts_at_once_and_then_one_a_second():
    bucket = limits(requests=60)
    assert [bucket.acquire("m", 1, now=0.0) for _ in range(60)] == [0.0] * 60
    assert bucket.acquire("m", 1, now=0.0) == pytest.approx(1.0)
    assert bucket.acquire("m", 1, now=0.5) == pytest.approx(0.5)
    assert bucket.acquire("m", 1, now=1.0) == 0.0


def test_nothing_is_taken_while_anything_is_missing():
    bucket = limits(requests=60, tokens=100)
    assert bucket.acquire("m", 100, now=0.0) == 0.0
    assert bucket.acquire("m", 50, now=0.0) == pytest.approx(30.0)
    # 59 requests are still there: the refused call took none.
    assert [bucket.acquire("m", 0, now=0.0) for _ in range(59)] == [0.0] * 59
    assert bucket.acquire("m", 0, now=0.0) > 0


def test_asking_how_long_it_takes_takes_nothing():
    bucket = limits(requests=60, tokens=100)
    assert bucket.delay(100, now=0.0) == 0.0
    assert bucket.acquire("m", 100, now=0.0) == 0.0
    assert bucket.delay(50, now=0.0) == bucket.delay(50, now=0.0) == pytest.approx(30.0)
    bucket.pause("m", 100.0, now=0.0)
    assert bucket.delay(50, now=10.0) == pytest.approx(20.0), "a pause is one model's"


def test_tokens_are_corrected_once_they_are_known():
    bucket = limits(tokens=100)
    bucket.acquire("m", 100, now=0.0)
    bucket.settle(reserved=100, used=20)
    assert bucket.acquire("m", 80, now=0.0) == 0.0
    bucket.settle(reserved=80, used=180)  # the answer was longer than thought: the next call waits for it
    assert bucket.acquire("m", 1, now=0.0) == pytest.approx(101 * 60 / 100)


def test_a_call_that_was_not_made_gives_its_share_back():
    bucket = limits(requests=1, tokens=10)
    assert bucket.acquire("m", 10, now=0.0) == 0.0
    bucket.give_back(10)
    assert bucket.acquire("m", 10, now=0.0) == 0.0


@given(
    requests=st.integers(1, 1000),
    amounts=st.lists(st.integers(0, 5_000), min_size=1, max_size=60),
    tokens=st.integers(1, 5_000),
)
def test_no_minute_holds_more_than_a_full_bucket_and_a_minutes_refill(requests, amounts, tokens):
    bucket, now, started = limits(requests, tokens), 0.0, []
    for amount in amounts:
        amount = min(amount, tokens)  # the engine never asks for more than a bucket holds
        while wait := bucket.acquire("m", amount, now):
            assert wait <= 60.001
            now += wait
        started.append((now, amount))
    for begin, _ in started:
        window = [amount for at, amount in started if begin <= at < begin + 60]
        assert len(window) <= 2 * requests + 1
        assert sum(window) <= 2 * tokens + 1


def test_a_pause_holds_one_model_and_only_ever_gets_longer():
    bucket = limits()
    assert bucket.pause("a", 10, now=0.0)
    assert not bucket.pause("a", 5, now=0.0)
    assert bucket.paused_for("a", now=4.0) == pytest.approx(6.0)
    assert bucket.paused_for("b", now=4.0) == 0.0
    assert bucket.paused_for("a", now=10.0) == 0.0


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_that_lets_nothing_through_is_refused(value):
    with pytest.raises(ConfigError, match="max_requests_per_minute"):
        limits(requests=value)


def test_backoff_doubles_with_jitter_and_ends():
    policy = RetryPolicy(max_attempts=4, base=1.0, longest=3.0)
    rng = random.Random(7)
    for attempt, (low, high) in enumerate([(0.5, 1.0), (1.0, 2.0), (1.5, 3.0)], start=1):
        drawn = [policy.delay(attempt, retryable=True, retry_after=None, rng=rng) for _ in range(50)]
        assert all(delay is not None and low <= delay <= high for delay in drawn)
        assert len(set(drawn)) > 10
    assert policy.delay(4, retryable=True, retry_after=None, rng=rng) is None


def test_backoff_has_no_end_however_often_it_fails():
    policy = RetryPolicy(max_attempts=10_000)
    delay = policy.delay(2_000, retryable=True, retry_after=None, rng=random.Random(7))
    assert delay is not None
    assert 15.0 <= delay <= 30.0


def test_the_providers_own_wait_is_kept_and_an_absurd_one_is_not_waited_for():
    policy, rng = RetryPolicy(max_attempts=5), random.Random(1)
    assert policy.delay(1, retryable=True, retry_after=17.0, rng=rng) == 17.0
    assert policy.delay(1, retryable=True, retry_after=600.0, rng=rng) == 600.0
    bounded = RetryPolicy(longest_asked=300.0)
    assert bounded.delay(1, retryable=True, retry_after=300.0, rng=rng) == 300.0
    assert bounded.delay(1, retryable=True, retry_after=301.0, rng=rng) is None
    assert policy.delay(1, retryable=False, retry_after=1.0, rng=rng) is None


def test_models_are_chosen_by_weight_and_paused_ones_are_passed_over():
    rng = random.Random(3)
    choice = Choice(["a", "b"], [1, 3])
    drawn = [choice.pick(rng) for _ in range(400)]
    assert 60 < drawn.count("a") < 140
    assert {choice.pick(rng, is_paused=lambda name: name == "b") for _ in range(20)} == {"a"}
    assert {choice.pick(rng, is_paused=lambda _: True) for _ in range(50)} == {"a", "b"}


@pytest.mark.parametrize(("options", "weights"), [([], None), (["a"], [1, 2]), (["a", "b"], [0, 0]), (["a"], [-1])])
def test_weights_that_do_not_fit_are_refused(options, weights):
    with pytest.raises(ConfigError):
        Choice(options, weights)
