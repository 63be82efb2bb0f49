"""Warm fan-out against the provider's rule: an entry is readable once the answer that wrote it has begun."""

import heapq
import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge.prompt_cache import Prefix
from lm_deluge.schedule import PrefixScheduler


def prefix(name: str, tokens: int = 5_000, seconds: float = 300.0) -> Prefix:
    return Prefix(name.encode(), tokens, 1_024, seconds)


A, B, SHORT = prefix("a"), prefix("b"), prefix("short", tokens=700)
INNER, OTHER_INNER = prefix("a1"), prefix("a2")


class Provider:
    """The rule, as simply as it can be said. Writes that a warm entry or a little patience would have spared count."""

    def __init__(self) -> None:
        self.expires: dict[bytes, float] = {}
        self.writing: dict[bytes, int] = {}
        self.writes: dict[bytes, int] = {}
        self.lifetimes: dict[bytes, int] = {}

    def start(self, chain: tuple[Prefix, ...], now: float) -> tuple[list[Prefix], list[Prefix]]:
        alive = [at for at, each in enumerate(chain) if now < self.expires.get(each.id, -1.0)]
        read = alive[-1] + 1 if alive else 0
        written = list(chain[read:])
        for each in written:
            self.writes[each.id] = self.writes.get(each.id, 0) + 1
            if not self.writing.get(each.id):
                self.lifetimes[each.id] = self.lifetimes.get(each.id, 0) + 1
            self.writing[each.id] = self.writing.get(each.id, 0) + 1
        return [chain[at] for at in alive], written

    def begin(self, touched: tuple[list[Prefix], list[Prefix]], started: float) -> None:
        read, written = touched
        for each in read + written:
            self.expires[each.id] = max(self.expires.get(each.id, 0.0), started + each.seconds)
        self.drop(written)

    def drop(self, written: list[Prefix]) -> None:
        for each in written:
            self.writing[each.id] -= 1


class Run:
    """Requests that take turns, wait at a gate, and reach the provider.

    Args:
        arrivals: when each comes, and its prefixes.
        latency: seconds until its answer begins, for each number.
        fails: whether a call fails, by the request's number and how many calls of all were sent before.
        held: seconds for which it waits for the client's limits.
        gives_up: when it is cancelled, if ever.
    """

    def __init__(
        self,
        arrivals,
        latency,
        fails=lambda number, calls: False,
        *,
        held=lambda number: 0.0,
        gives_up=lambda number: None,
        patience=1e9,
    ):
        self.scheduler: PrefixScheduler[int] = PrefixScheduler(patience=patience)
        self.provider = Provider()
        self.answered: dict[int, float] = {}
        self.arrivals, self.latency, self.fails, self.held = arrivals, latency, fails, held
        self.calls = 0
        self._state: dict[int, tuple] = {}  # of those that wait, stand at the gate or were sent
        self._order = itertools.count()
        self._queue: list[tuple] = []
        for number, (at, _) in enumerate(arrivals):
            self._at(at, self._enter, number)
            if (end := gives_up(number)) is not None:
                self._at(max(at, end), self._give_up, number)
        while self._queue:
            now, _, do, number, state = heapq.heappop(self._queue)
            if state is None or self._state.get(number) is state:
                assert now < 1e6, "somebody waits without end"
                do(number, now)

    def _at(self, when, do, number, state=None):
        heapq.heappush(self._queue, (when, next(self._order), do, number, state))

    def _put(self, number, state, when, do):
        self._state[number] = state
        self._at(when, do, number, state)

    def _enter(self, number, now):
        turn = self.scheduler.enter(self.arrivals[number][1], now, number)
        if turn.role == "wait":
            self._put(number, ("waiting", turn), turn.until, self._enter)
        else:
            self._put(number, ("at the gate", turn), now + self.held(number), self._send)

    def _send(self, number, now):
        _, turn = self._state[number]
        if not self.scheduler.holds(turn, now):
            woken = self.scheduler.cancelled(turn)
            self._enter(number, now)
            self._wake(woken, now)
            return
        self.scheduler.sent(turn, now)
        touched = self.provider.start(tuple(each for each in self.arrivals[number][1] if each.is_cacheable), now)
        failing = self.fails(number, self.calls)
        self.calls += 1
        state = ("sent", turn, touched, now)
        self._put(number, state, now + self.latency(number), self._fail if failing else self._begin)

    def _fail(self, number, now):
        _, turn, touched, _ = self._state.pop(number)
        self.provider.drop(touched[1])
        woken = self.scheduler.failed(turn)
        self._enter(number, now)
        self._wake(woken, now)

    def _begin(self, number, now):
        _, turn, touched, started = self._state.pop(number)
        self.provider.begin(touched, started)
        self.answered[number] = now
        self._wake(self.scheduler.began(turn, started=started, now=now), now)

    def _give_up(self, number, now):
        if number in self.answered:
            return
        what, turn, *sent = self._state.pop(number)
        if sent:
            self.provider.drop(sent[0][1])
        self.answered[number] = now
        self._wake(self.scheduler.cancelled(turn, number if what in ("waiting", "woken") else None), now)

    def _wake(self, woken, now):
        for number in woken:
            _, turn = self._state[number]
            self._put(number, ("woken", turn), now, self._enter)


CHAINS = [(A,), (B,), (A, INNER), (A, OTHER_INNER), (SHORT, B), (SHORT,), (A, INNER, prefix("a1x")), ()]
LASTING = [(prefix("l", seconds=3600.0), prefix("l1")), (prefix("l", seconds=3600.0),)]
arrivals = st.lists(
    st.tuples(st.integers(0, 2_000).map(float), st.sampled_from(CHAINS + LASTING)), min_size=1, max_size=60
)


@settings(deadline=None)
@given(arrivals, st.integers(1, 40), st.sampled_from([0, 20, 400]), st.booleans(), st.randoms(use_true_random=False))
def test_no_write_that_waiting_would_have_spared(arrivals, slowest, longest_held, some_give_up, rng):
    latencies = [rng.uniform(0.5, slowest) for _ in arrivals]
    held = [rng.uniform(0.0, longest_held) for _ in arrivals]
    ends = [at + rng.uniform(0.0, 100.0) if some_give_up and rng.random() < 0.3 else None for at, _ in arrivals]
    run = Run(arrivals, latencies.__getitem__, held=held.__getitem__, gives_up=ends.__getitem__)
    assert len(run.answered) == len(arrivals)
    assert run.provider.writes == run.provider.lifetimes, "a prefix was written while another request was writing it"


@settings(deadline=None)
@given(arrivals, st.integers(0, 2**32), st.booleans())
def test_everybody_gets_through_whatever_fails(arrivals, seed, some_give_up):
    def draw(*what):
        return random.Random(f"{seed} {what}").random()

    failures: Counter[int] = Counter()

    def fails(number, calls):
        failing = failures[number] < 3 and draw("fails", number, calls) < 0.5
        failures[number] += failing
        return failing

    run = Run(
        arrivals,
        lambda number: 5.0,
        fails,
        held=lambda number: 20.0 * draw("held", number),
        gives_up=lambda number: (
            arrivals[number][0] + 60 * draw("when", number) if some_give_up and draw("gives up", number) < 0.3 else None
        ),
        patience=30.0,
    )
    assert len(run.answered) == len(arrivals)
    for number, (at, _) in enumerate(arrivals):
        assert run.answered[number] - at <= 600.0, "the wait is bounded"
    later = 1e6
    for each in {each.id: each for _, chain in arrivals for each in chain if each.is_cacheable}.values():
        roles = [run.scheduler.enter([each], later, -number).role for number in (1, 2, 3)]
        assert roles == ["lead", "wait", "wait"], "the next run pays for what failed in this one"


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 200), st.randoms(use_true_random=False))
def test_a_storm_is_answered_by_one_two_four_and_so_on(failing, prompts, rng):
    """The first calls of all fail. Whatever takes how long, the round in which one succeeds is no larger than this."""
    latencies = [rng.uniform(0.5, 5.0) for _ in range(prompts)]
    held = [rng.uniform(0.0, 2.0) for _ in range(prompts)]
    run = Run(
        [(0.0, (A,))] * prompts, latencies.__getitem__, lambda number, calls: calls < failing, held=held.__getitem__
    )
    rounds = (failing + 1).bit_length() - 1 if prompts > failing else failing
    assert run.calls == prompts + failing
    assert run.provider.writes[A.id] <= 2 ** (rounds + 1) - 1
    if prompts > failing:
        assert max(run.answered.values()) <= (rounds + 2) * 7.0


@pytest.mark.parametrize("groups", [1, 8])
def test_a_batch_of_1319_rows_writes_each_prefix_once(groups):
    shared = [prefix(f"g{number}") for number in range(groups)]
    batch = [(0.0, (shared[number % groups],)) for number in range(1_319)]
    run = Run(batch, lambda number: 1.0 + number % 7)
    assert run.provider.writes == {each.id: 1 for each in shared}
    assert max(run.answered.values()) <= 8.0 + 7.0


def test_a_leader_that_waits_for_the_limits_is_waited_for():
    """All stand at the gate for far longer than anybody's patience."""
    run = Run([(0.0, (A,))] * 50, lambda number: 3.0, held=lambda number: 200.0, patience=60.0)
    assert run.provider.writes == {A.id: 1}


def test_a_run_of_an_hour_with_pauses_renews_without_a_second_write():
    """A request every 40 seconds reads and renews; a silence of six minutes ends the entry."""
    times = [40.0 * number for number in range(90)]
    run = Run([(at, (A,)) for at in times], lambda number: 30.0)
    assert run.provider.writes == {A.id: 1}
    run = Run([(at if at < 1_000 else at + 360.0, (A,)) for at in times], lambda number: 30.0)
    assert run.provider.writes == {A.id: 2}
