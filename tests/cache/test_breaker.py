"""When a cache is left alone: the state machine, with times that the test gives."""

from lm_deluge.cache.breaker import Breaker


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    breaker.failed("call", now, at_once=True)
    return breaker


def test_some_failures_open_it_and_a_success_between_them_does_not() -> None:
    breaker = Breaker()
    for now in (0.0, 1.0):
        breaker.failed("call", now)
    breaker.succeeded("call")
    for now in (2.0, 3.0):
        breaker.failed("call", now)
    assert breaker.leave(3.0) == "call"
    breaker.failed("call", 4.0)
    assert (breaker.state, breaker.leave(4.5)) == ("open", None)


def test_calls_side_by_side_fail_as_one() -> None:
    breaker = Breaker()
    for _ in range(100):
        breaker.failed("call", 1.0)
    assert breaker.state == "closed"
    breaker.failed("call", 1.2)
    breaker.failed("call", 1.4)
    assert breaker.state == "open"


def test_one_that_took_long_is_enough() -> None:
    assert opened().state == "open"


def test_after_a_pause_one_may_ask() -> None:
    breaker = opened()
    assert breaker.leave(0.9) is None
    assert breaker.leave(1.0) == "probe"
    assert (breaker.state, breaker.leave(5.0)) == ("half-open", None)
    breaker.succeeded("probe")
    assert breaker.leave(5.0) == "call"


def test_pauses_grow_to_a_limit_and_begin_anew() -> None:
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(6):
        pauses.append(breaker.until - now)
        now = breaker.until
        assert breaker.leave(now) == "probe"
        breaker.failed("probe", now)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    now = breaker.until
    assert breaker.leave(now) == "probe"
    breaker.succeeded("probe")
    breaker.failed("call", now, at_once=True)
    assert breaker.until == now + 1.0


def test_calls_from_before_change_nothing() -> None:
    breaker = opened()
    until = breaker.until
    breaker.failed("call", 0.5)
    breaker.succeeded("call")
    assert (breaker.state, breaker.until) == ("open", until)
    assert breaker.leave(1.0) == "probe"
    breaker.succeeded("call")
    breaker.failed("call", 1.1)
    assert breaker.state == "half-open"


def test_it_can_be_asked_earlier_but_not_all_the_time() -> None:
    breaker = opened()
    assert breaker.leave(1.0) == "probe"
    breaker.failed("probe", 6.0)
    breaker.hasten(6.5)
    assert breaker.leave(6.5) is None
    breaker.hasten(7.0)
    assert breaker.leave(7.0) == "probe"
