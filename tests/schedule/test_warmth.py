"""Warm fan-out against the provider's rule: an entry is readable once the answer that wrote it has begun."""

import heapq
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge.prompt_cache import Prefix
from lm_deluge.schedule import Turn, Warmth


def prefix(name: str, tokens: int = 5_000, seconds: float = 300.0) -> Prefix:
    return Prefix(name.encode(), tokens, 1_024, seconds)


A, B, SHORT = prefix("a"), prefix("b"), prefix("short", tokens=700)
INNER, OTHER_INNER = prefix("a1"), prefix("a2")


def test_one_leads_the_others_wait_and_then_follow():
    warmth: Warmth[int] = Warmth()
    lead = warmth.enter([A], 0.0, 1)
    assert lead.role == "lead"
    assert [warmth.enter([A], 0.1, number).role for number in (2, 3, 4)] == ["wait"] * 3
    assert warmth.began(lead, started=0.0, now=2.0) == [2, 3, 4]
    assert [warmth.enter([A], 2.0, number).role for number in (2, 3, 4, 5)] == ["follow"] * 4


def test_groups_are_independent():
    warmth: Warmth[int] = Warmth()
    assert [warmth.enter([each], 0.0, number).role for number, each in enumerate([A, B, A, B])] == [
        "lead",
        "lead",
        "wait",
        "wait",
    ]


def test_what_the_model_does_not_cache_never_waits():
    warmth: Warmth[int] = Warmth()
    assert [warmth.enter([SHORT], 0.0, number).role for number in range(3)] == ["follow"] * 3
    assert [warmth.enter([], 0.0, number).role for number in range(3)] == ["follow"] * 3
    assert len(warmth) == 0


def test_who_cannot_wait_goes():
    warmth: Warmth[int] = Warmth()
    assert [warmth.enter([A], 0.0).role for _ in range(3)] == ["lead"] * 3


def test_a_prefix_inside_another_is_written_after_it():
    """Eight documents behind one system text: at first one request in all, then one for each document."""
    warmth: Warmth[int] = Warmth()
    first = warmth.enter([A, INNER], 0.0, 1)
    assert warmth.enter([A, OTHER_INNER], 0.0, 2).role == "wait", "it would write the system text a second time"
    assert warmth.enter([A, INNER], 0.0, 3).role == "wait"
    assert warmth.began(first, started=0.0, now=1.0) == [2, 3]
    second = warmth.enter([A, OTHER_INNER], 1.0, 2)
    assert (second.role, second.leads) == ("lead", (OTHER_INNER.id,))
    assert warmth.enter([A, INNER], 1.0, 3).role == "follow"
    assert warmth.enter([A, OTHER_INNER], 1.0, 4).role == "wait"
    assert warmth.began(second, started=1.0, now=2.0) == [4]


def test_a_lifetime_counts_from_the_start_of_each_read():
    warmth: Warmth[int] = Warmth()
    warmth.began(warmth.enter([A], 0.0, 1), started=0.0, now=50.0)
    assert warmth.is_warm(A, 299.9)
    assert not warmth.is_warm(A, 300.0)
    follow = warmth.enter([A], 200.0, 2)
    assert not warmth.is_warm(A, 300.0), "it may still fail on its way"
    warmth.began(follow, started=201.0, now=260.0)
    assert warmth.is_warm(A, 500.9)
    assert not warmth.is_warm(A, 501.0)
    warmth.began(Turn(role="follow", prefixes=(A,)), started=150.0, now=300.0)
    assert warmth.is_warm(A, 500.9), "an answer that comes late takes nothing away"


def test_shortly_before_the_end_one_renews_while_the_others_read():
    warmth: Warmth[int] = Warmth()
    warmth.began(warmth.enter([A], 0.0, 1), started=0.0, now=1.0)
    assert warmth.enter([A], 269.0, 2).role == "follow"
    renewal = warmth.enter([A], 280.0, 3)
    assert renewal.role == "lead"
    assert warmth.enter([A], 281.0, 4).role == "follow"
    assert warmth.enter([A], 300.0, 5).role == "wait", "it has ended, and the renewal is on its way"
    assert warmth.began(renewal, started=280.0, now=301.0) == [5]
    assert warmth.enter([A], 301.0, 5).role == "follow"


def test_after_the_end_it_begins_anew():
    warmth: Warmth[int] = Warmth()
    warmth.began(warmth.enter([A], 0.0, 1), started=0.0, now=1.0)
    assert [warmth.enter([A], 400.0, number).role for number in (2, 3)] == ["lead", "wait"]


def test_the_longest_warm_prefix_covers_the_shorter_ones():
    warmth: Warmth[int] = Warmth()
    warmth.began(warmth.enter([A, INNER], 0.0, 1), started=0.0, now=1.0)
    warmth.began(warmth.enter([INNER], 200.0, 2), started=200.0, now=201.0)
    follow = warmth.enter([A, INNER], 400.0, 3)
    assert (follow.role, follow.prefixes) == ("follow", (INNER,))
    warmth.began(follow, started=400.0, now=401.0)
    assert not warmth.is_warm(A, 401.0), "nobody wrote it again"


def test_a_failing_leader_hands_over_to_twice_as_many_each_time():
    warmth: Warmth[int] = Warmth()
    waiting = set(range(100))
    leaders = [warmth.enter([A], 0.0, waiting.pop())]
    assert {warmth.enter([A], 0.0, number).role for number in waiting} == {"wait"}
    rounds = []
    while leaders:
        rounds.append(len(leaders))
        # As one: each who fails wakes those that wait, who ask again only after all of this round have failed.
        woken = {each for leader in leaders for each in warmth.failed(leader)}
        assert woken == waiting
        turns = {number: warmth.enter([A], 1.0, number) for number in woken}
        leaders = [turn for turn in turns.values() if turn.role == "lead"]
        waiting = {number for number, turn in turns.items() if turn.role == "wait"}
    assert rounds[:3] == [1, 2, 8]
    assert sum(rounds) == 100
    assert len(rounds) <= 5


def test_a_leader_that_is_cancelled_hands_over_to_one():
    warmth: Warmth[int] = Warmth()
    lead = warmth.enter([A], 0.0, 1)
    assert [warmth.enter([A], 0.0, number).role for number in (2, 3)] == ["wait", "wait"]
    assert warmth.cancelled(lead) == [2, 3]
    assert [warmth.enter([A], 0.0, number).role for number in (2, 3)] == ["lead", "wait"]


def test_one_that_stops_waiting_is_not_woken():
    warmth: Warmth[int] = Warmth()
    lead = warmth.enter([A], 0.0, 1)
    wait = warmth.enter([A], 0.0, 2)
    assert warmth.enter([A], 0.0, 3).role == "wait"
    assert warmth.cancelled(wait, 2) == []
    assert warmth.began(lead, started=0.0, now=1.0) == [3]


def test_nobody_waits_longer_than_the_patience_for_one_leader():
    warmth: Warmth[int] = Warmth(patience=10.0)
    slow = warmth.enter([A], 0.0, 1)
    turns = [warmth.enter([A], 5.0, number) for number in (2, 3)]
    assert [(turn.role, turn.until) for turn in turns] == [("wait", 10.0)] * 2
    second = warmth.enter([A], 10.0, 2)
    assert second.role == "lead"
    assert (warmth.enter([A], 10.0, 3).role, warmth.enter([A], 10.0, 3).until) == ("wait", 20.0)
    assert warmth.began(slow, started=0.0, now=15.0) == [3]
    assert warmth.enter([A], 15.0, 3).role == "follow"


def test_answers_that_take_longer_than_an_entry_lives_do_not_line_up():
    warmth: Warmth[int] = Warmth(patience=10_000.0)
    roles = []
    now = 0.0
    for _ in range(4):
        turns = [warmth.enter([A], now, number) for number in range(40)]
        roles.append(sum(turn.role == "lead" for turn in turns))
        for turn in turns:
            if turn.role == "lead":
                warmth.began(turn, started=now, now=now + 400.0)
        now += 400.0
    assert roles == [1, 2, 8, 40]


def test_memory_is_bounded():
    warmth: Warmth[int] = Warmth()
    for number in range(40_000):
        each = prefix(str(number))
        warmth.began(warmth.enter([A, each], float(number) / 1_000, number), started=number / 1_000, now=number / 1_000)
        assert len(warmth) <= 16_385
    assert warmth.is_warm(each, 40.0)


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


def run(arrivals, latency, fails=lambda number, attempt: False, patience=1e9):
    """Drive requests through the gate and the provider. Returns the provider, and when each request was answered."""
    warmth: Warmth[int] = Warmth(patience=patience)
    provider = Provider()
    order = itertools.count()
    queue = [(at, next(order), "enter", number, None) for number, (at, _) in enumerate(arrivals)]
    heapq.heapify(queue)
    answered: dict[int, float] = {}
    waiting: dict[int, float] = {}
    attempts: dict[int, int] = {}
    while queue:
        now, _, what, number, state = heapq.heappop(queue)
        woken: list[int] = []
        if what in ("enter", "ask"):
            if what == "ask" and waiting.get(number) != state:
                continue
            waiting.pop(number, None)
            chain = arrivals[number][1]
            turn = warmth.enter(chain, now, number)
            if turn.role == "wait":
                waiting[number] = turn.until
                heapq.heappush(queue, (turn.until, next(order), "ask", number, turn.until))
                continue
            touched = provider.start(tuple(each for each in chain if each.is_cacheable), now)
            heapq.heappush(queue, (now + latency(number), next(order), "begin", number, (turn, touched, now)))
        else:
            turn, touched, started = state
            attempts[number] = attempts.get(number, 0) + 1
            if fails(number, attempts[number]):
                provider.drop(touched[1])
                woken = warmth.failed(turn)
                heapq.heappush(queue, (now, next(order), "enter", number, None))
            else:
                provider.begin(touched, started)
                answered[number] = now
                woken = warmth.began(turn, started=started, now=now)
        for each in woken:
            if waiting.pop(each, None) is not None:
                heapq.heappush(queue, (now, next(order), "enter", each, None))
    return provider, answered


CHAINS = [(A,), (B,), (A, INNER), (A, OTHER_INNER), (SHORT, B), (SHORT,), (A, INNER, prefix("a1x")), ()]
LASTING = [(prefix("l", seconds=3600.0), prefix("l1")), (prefix("l", seconds=3600.0),)]
arrivals = st.lists(
    st.tuples(st.integers(0, 2_000).map(float), st.sampled_from(CHAINS + LASTING)), min_size=1, max_size=60
)


@settings(deadline=None)
@given(arrivals, st.integers(1, 40), st.randoms(use_true_random=False))
def test_no_write_that_waiting_would_have_spared(arrivals, slowest, rng):
    latencies = [rng.uniform(0.5, slowest) for _ in arrivals]
    provider, answered = run(arrivals, latencies.__getitem__)
    assert len(answered) == len(arrivals)
    assert provider.writes == provider.lifetimes, "a prefix was written while another request was writing it"


@settings(deadline=None)
@given(arrivals, st.integers(0, 2**32))
def test_everybody_gets_through_whatever_fails(arrivals, seed):
    def fails(number, attempt):
        return attempt < 4 and random.Random(f"{seed} {number} {attempt}").random() < 0.5

    _, answered = run(arrivals, lambda number: 5.0, fails, patience=30.0)
    assert len(answered) == len(arrivals)
    for number, (at, _) in enumerate(arrivals):
        assert answered[number] - at <= 400.0, "the wait is bounded"


@pytest.mark.parametrize("groups", [1, 8])
def test_a_batch_of_1319_rows_writes_each_prefix_once(groups):
    shared = [prefix(f"g{number}") for number in range(groups)]
    batch = [(0.0, (shared[number % groups],)) for number in range(1_319)]
    provider, answered = run(batch, lambda number: 1.0 + number % 7)
    assert provider.writes == {each.id: 1 for each in shared}
    assert max(answered.values()) <= 8.0 + 7.0


def test_a_run_of_an_hour_with_pauses_renews_without_a_second_write():
    """A request every 40 seconds reads and renews; a silence of six minutes ends the entry."""
    times = [40.0 * number for number in range(90)]
    provider, _ = run([(at, (A,)) for at in times], lambda number: 30.0)
    assert provider.writes == {A.id: 1}
    provider, _ = run([(at if at < 1_000 else at + 360.0, (A,)) for at in times], lambda number: 30.0)
    assert provider.writes == {A.id: 2}
