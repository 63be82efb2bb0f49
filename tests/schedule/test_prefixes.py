"""Warm fan-out, decision by decision: who leads, who waits, and what they do after a failure."""

import msgspec
import pytest

from lm_deluge.prompt_cache import Prefix
from lm_deluge.schedule import APART, PrefixScheduler, PrefixTicket


def prefix(name: str, tokens: int = 5_000, seconds: float = 300.0) -> Prefix:
    return Prefix(name.encode(), tokens, 1_024, seconds)


def is_warm(scheduler: PrefixScheduler[int], read: Prefix, now: float) -> bool:
    return scheduler.holds(PrefixTicket(role="follow", prefixes=(read,)), now)


A, B, SHORT = prefix("a"), prefix("b"), prefix("short", tokens=700)
INNER, OTHER_INNER = prefix("a1"), prefix("a2")


def test_one_leads_the_others_wait_and_then_follow():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    lead = scheduler.enter([A], 0.0, 1)
    assert lead.role == "lead"
    assert [scheduler.enter([A], 0.1, number).role for number in (2, 3, 4)] == ["wait"] * 3
    assert scheduler.began(lead, started=0.0, now=2.0) == [2, 3, 4]
    assert [scheduler.enter([A], 2.0, number).role for number in (2, 3, 4, 5)] == ["follow"] * 4


def test_groups_are_independent():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    assert [scheduler.enter([each], 0.0, number).role for number, each in enumerate([A, B, A, B])] == [
        "lead",
        "lead",
        "wait",
        "wait",
    ]


def test_what_the_model_does_not_cache_never_waits():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    assert [scheduler.enter([SHORT], 0.0, number).role for number in range(3)] == ["follow"] * 3
    assert [scheduler.enter([], 0.0, number).role for number in range(3)] == ["follow"] * 3
    assert len(scheduler) == 0


def test_who_cannot_wait_goes():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    assert [scheduler.enter([A], 0.0).role for _ in range(3)] == ["lead"] * 3


def test_a_prefix_inside_another_is_written_after_it():
    """Eight documents behind one system text: at first one request in all, then one for each document."""
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    first = scheduler.enter([A, INNER], 0.0, 1)
    assert scheduler.enter([A, OTHER_INNER], 0.0, 2).role == "wait", "it would write the system text a second time"
    assert scheduler.enter([A, INNER], 0.0, 3).role == "wait"
    assert scheduler.began(first, started=0.0, now=1.0) == [2, 3]
    second = scheduler.enter([A, OTHER_INNER], 1.0, 2)
    assert (second.role, second.leads) == ("lead", (OTHER_INNER.id,))
    assert scheduler.enter([A, INNER], 1.0, 3).role == "follow"
    assert scheduler.enter([A, OTHER_INNER], 1.0, 4).role == "wait"
    assert scheduler.began(second, started=1.0, now=2.0) == [4]


def test_a_lifetime_counts_from_the_start_of_each_read():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    scheduler.began(scheduler.enter([A], 0.0, 1), started=0.0, now=50.0)
    assert is_warm(scheduler, A, 299.9)
    assert not is_warm(scheduler, A, 300.0)
    follow = scheduler.enter([A], 200.0, 2)
    assert not is_warm(scheduler, A, 300.0), "it may still fail on its way"
    scheduler.began(follow, started=201.0, now=260.0)
    assert is_warm(scheduler, A, 500.9)
    assert not is_warm(scheduler, A, 501.0)
    scheduler.began(PrefixTicket(role="follow", prefixes=(A,)), started=150.0, now=300.0)
    assert is_warm(scheduler, A, 500.9), "an answer that comes late takes nothing away"


def test_shortly_before_the_end_one_renews_while_the_others_read():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    scheduler.began(scheduler.enter([A], 0.0, 1), started=0.0, now=1.0)
    assert scheduler.enter([A], 269.0, 2).role == "follow"
    renewal = scheduler.enter([A], 280.0, 3)
    assert renewal.role == "lead"
    assert scheduler.enter([A], 281.0, 4).role == "follow"
    assert scheduler.enter([A], 300.0, 5).role == "wait", "it has ended, and the renewal is on its way"
    assert scheduler.began(renewal, started=280.0, now=301.0) == [5]
    assert scheduler.enter([A], 301.0, 5).role == "follow"


def test_after_the_end_it_begins_anew():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    scheduler.began(scheduler.enter([A], 0.0, 1), started=0.0, now=1.0)
    assert [scheduler.enter([A], 400.0, number).role for number in (2, 3)] == ["lead", "wait"]


def test_the_longest_warm_prefix_covers_the_shorter_ones():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    scheduler.began(scheduler.enter([A, INNER], 0.0, 1), started=0.0, now=1.0)
    scheduler.began(scheduler.enter([INNER], 200.0, 2), started=200.0, now=201.0)
    follow = scheduler.enter([A, INNER], 400.0, 3)
    assert (follow.role, follow.prefixes) == ("follow", (INNER,))
    scheduler.began(follow, started=400.0, now=401.0)
    assert not is_warm(scheduler, A, 401.0), "nobody wrote it again"


def test_a_round_that_fails_hands_over_to_twice_as_many():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    waiting = set(range(100))
    leaders = [scheduler.enter([A], 0.0, waiting.pop())]
    assert {scheduler.enter([A], 0.0, number).role for number in waiting} == {"wait"}
    rounds = []
    while leaders:
        rounds.append(len(leaders))
        *others, last = leaders
        assert [scheduler.failed(leader) for leader in others] == [[]] * len(others), "the round is not over"
        woken = set(scheduler.failed(last))
        assert woken == waiting
        turns = {number: scheduler.enter([A], 1.0, number) for number in woken}
        leaders = [turn for turn in turns.values() if turn.role == "lead"]
        waiting = {number for number, turn in turns.items() if turn.role == "wait"}
    assert rounds == [1, 2, 4, 8, 16, 32, 37]


def test_who_comes_while_a_round_fails_waits_for_its_end():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    first = scheduler.enter([A], 0.0, 1)
    assert scheduler.enter([A], 0.0, 2).role == "wait"
    assert scheduler.failed(first) == [2]
    two = [scheduler.enter([A], 1.0, number) for number in (2, 3)]
    assert [turn.role for turn in two] == ["lead"] * 2
    assert scheduler.failed(two[0]) == []
    assert scheduler.enter([A], 2.0, 4).role == "wait", "one of two has failed, and the other one is under way"
    assert scheduler.began(two[1], started=1.0, now=3.0) == [4]
    assert is_warm(scheduler, A, 3.0)


def test_a_success_ends_the_doubling():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    lead, wait = scheduler.enter([A], 0.0, 1), scheduler.enter([A], 0.0, 2)
    assert wait.role == "wait"
    scheduler.failed(lead)
    two = [scheduler.enter([A], 1.0, number) for number in (2, 3)]
    scheduler.began(two[0], started=1.0, now=2.0)
    assert scheduler.failed(two[1]) == [], "the entry is there, whatever became of the other one"
    assert [scheduler.enter([A], 400.0, number).role for number in (4, 5, 6)] == ["lead", "wait", "wait"]


def test_what_failed_is_forgotten_when_nobody_asks_any_more():
    """A key that is wrong fails 15 prompts of one run; the next run, with the right one, writes once."""
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    asking, rounds = list(range(15)), []
    while asking:
        turns = {number: scheduler.enter([A], 0.0, number) for number in asking}
        leaders = [turn for turn in turns.values() if turn.role == "lead"]
        rounds.append(len(leaders))
        asking = [number for leader in leaders for number in scheduler.failed(leader)]
    assert rounds == [1, 2, 4, 8]
    assert [scheduler.enter([A], 1.0, number).role for number in (20, 21, 22)] == ["lead", "wait", "wait"]


@pytest.mark.parametrize("leaves", ["while it waits", "after it was woken"])
def test_those_that_gave_up_do_not_keep_a_failure_alive(leaves):
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    lead, wait = scheduler.enter([A], 0.0, 1), scheduler.enter([A], 0.0, 2)
    if leaves == "while it waits":
        scheduler.cancelled(wait, 2)
        assert scheduler.failed(lead) == []
    else:
        assert scheduler.failed(lead) == [2]
        scheduler.cancelled(wait, 2)
    assert [scheduler.enter([A], 1.0, number).role for number in (3, 4)] == ["lead", "wait"]


def test_one_that_was_woken_and_has_not_asked_yet_keeps_the_round():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    lead = scheduler.enter([A], 0.0, 1)
    assert scheduler.enter([A], 0.0, 2).role == "wait"
    assert scheduler.failed(lead) == [2]
    assert [scheduler.enter([A], 1.0, number).role for number in (3, 2, 4)] == ["lead", "lead", "wait"]


def test_what_reads_only_says_what_it_reads():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    first = scheduler.enter([A, INNER], 0.0, 1)
    assert first.group is None
    scheduler.began(first, started=0.0, now=1.0)
    assert scheduler.enter([A], 2.0, 2).group == A.id
    assert scheduler.enter([A, INNER], 2.0, 3).group == INNER.id
    assert scheduler.enter([A, OTHER_INNER], 2.0, 4).group is None, "it writes the inner one"
    renewal = scheduler.enter([A, INNER], 299.0, 5)
    assert (renewal.role, renewal.group) == ("lead", INNER.id)
    assert scheduler.enter([A, SHORT], 2.0, 6).group == A.id
    assert scheduler.enter([SHORT], 2.0, 7).group == scheduler.enter([], 2.0, 8).group == APART


def test_what_writes_only_its_own_end_reads_what_is_before_it():
    """Its write is of no use to others, so it takes its turn with them."""
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    ends = [msgspec.structs.replace(each, is_whole=True) for each in (INNER, OTHER_INNER)]
    first = scheduler.enter([A, ends[0]], 0.0, 1)
    assert first.group is None
    scheduler.began(first, started=0.0, now=1.0)
    second = scheduler.enter([A, ends[1]], 2.0, 2)
    assert (second.role, second.group) == ("lead", A.id)
    assert scheduler.enter([msgspec.structs.replace(B, is_whole=True)], 2.0, 3).group == APART


def test_an_entry_lives_as_long_as_its_writer_asked():
    """A read with a longer lifetime renews the entry that is there."""
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    long = msgspec.structs.replace(A, seconds=3_600.0)
    first = scheduler.enter([A], 0.0, 1)
    scheduler.began(first, started=0.0, now=1.0)
    for waiter, at in enumerate((10.0, 250.0), start=2):
        reader = scheduler.enter([long], at, waiter)
        assert reader.role == "follow"
        scheduler.began(reader, started=at, now=at + 1.0)
    assert scheduler.enter([long], 549.0, 4).role == "lead", "it ends soon"
    writer = scheduler.enter([long], 551.0, 5)
    assert writer.role == "wait"
    again: PrefixScheduler[int] = PrefixScheduler()
    first = again.enter([long], 0.0, 1)
    again.began(first, started=0.0, now=1.0)
    reader = again.enter([A], 3_000.0, 2)
    again.began(reader, started=3_000.0, now=3_001.0)
    assert again.enter([A], 6_000.0, 3).role == "follow"


def test_a_read_renews_the_shorter_prefixes_where_the_provider_does():
    for renews, role in [(True, "follow"), (False, "lead")]:
        scheduler: PrefixScheduler[int] = PrefixScheduler()
        outer = msgspec.structs.replace(A, is_renewed=renews)
        first = scheduler.enter([outer, INNER], 0.0, 1)
        scheduler.began(first, started=0.0, now=1.0)
        second = scheduler.enter([outer, INNER], 200.0, 2)
        scheduler.began(second, started=200.0, now=201.0)
        assert scheduler.enter([outer], 400.0, 3).role == role
        assert scheduler.enter([outer, INNER], 400.0, 4).role == "follow"


def test_many_prefixes_in_use_are_not_looked_at_again_and_again():
    """Each prompt of a large batch waits or leads, so nothing can be forgotten; that is found out a few times only."""
    looks = 0

    class Counting(PrefixScheduler[int]):
        def _drop_idle(self, now: float) -> None:
            nonlocal looks
            looks += 1
            super()._drop_idle(now)

    scheduler = Counting()
    turns = [scheduler.enter([prefix(f"many{number}")], 0.0, number) for number in range(70_000)]
    assert looks <= 3
    for turn in turns:
        scheduler.began(turn, started=0.0, now=1.0)
    for number in range(140_000):
        turn = scheduler.enter([prefix(f"more{number}")], 1_000.0, number)
        scheduler.failed(turn)
    assert len(scheduler) <= 16_384


def test_a_turn_holds_as_long_as_what_it_reads():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    lead = scheduler.enter([A, INNER], 0.0, 1)
    assert scheduler.holds(lead, 1_000.0), "it was told to read nothing"
    scheduler.began(lead, started=0.0, now=1.0)
    follow = scheduler.enter([A, INNER], 200.0, 2)
    writer = scheduler.enter([A, OTHER_INNER], 200.0, 3)
    assert scheduler.holds(follow, 299.9)
    assert scheduler.holds(writer, 299.9)
    scheduler.began(scheduler.enter([A], 250.0, 4), started=250.0, now=251.0)
    assert not scheduler.holds(follow, 300.0), "the inner one has ended"
    assert scheduler.holds(writer, 300.0)
    assert not scheduler.holds(writer, 550.0)
    assert scheduler.cancelled(follow) == []
    again = scheduler.enter([A, INNER], 300.0, 2)
    assert (again.role, again.leads) == ("lead", (INNER.id,))


def test_a_renewal_that_comes_late_writes_and_is_waited_for():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    scheduler.began(scheduler.enter([A], 0.0, 1), started=0.0, now=1.0)
    renewal = scheduler.enter([A], 299.0, 2)
    assert scheduler.holds(renewal, 310.0)
    assert scheduler.enter([A], 310.0, 3).role == "wait"


def test_a_leader_that_is_cancelled_hands_over_to_one():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    lead = scheduler.enter([A], 0.0, 1)
    assert [scheduler.enter([A], 0.0, number).role for number in (2, 3)] == ["wait", "wait"]
    assert scheduler.cancelled(lead) == [2, 3]
    assert [scheduler.enter([A], 0.0, number).role for number in (2, 3)] == ["lead", "wait"]


def test_one_that_stops_waiting_is_not_woken():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    lead = scheduler.enter([A], 0.0, 1)
    wait = scheduler.enter([A], 0.0, 2)
    assert scheduler.enter([A], 0.0, 3).role == "wait"
    assert scheduler.cancelled(wait, 2) == []
    assert scheduler.began(lead, started=0.0, now=1.0) == [3]


def test_nobody_waits_longer_than_the_patience_for_one_leader():
    scheduler: PrefixScheduler[int] = PrefixScheduler(patience=10.0)
    slow = scheduler.enter([A], 0.0, 1)
    scheduler.sent(slow, 0.0)
    turns = [scheduler.enter([A], 5.0, number) for number in (2, 3)]
    assert [(turn.role, turn.until) for turn in turns] == [("wait", 10.0)] * 2
    second = scheduler.enter([A], 10.0, 2)
    assert second.role == "lead"
    scheduler.sent(second, 11.0)
    assert (scheduler.enter([A], 12.0, 3).role, scheduler.enter([A], 12.0, 3).until) == ("wait", 21.0)
    assert scheduler.began(slow, started=0.0, now=15.0) == [3]
    assert scheduler.enter([A], 15.0, 3).role == "follow"


def test_patience_with_a_leader_counts_from_when_it_is_sent():
    scheduler: PrefixScheduler[int] = PrefixScheduler(patience=10.0)
    lead = scheduler.enter([A], 0.0, 1)
    for now in (5.0, 15.0, 100.0):
        turn = scheduler.enter([A], now, 2)
        assert (turn.role, turn.until) == ("wait", now + 10.0), "it waits for this client's own limits"
    scheduler.sent(lead, 104.0)
    turn = scheduler.enter([A], 110.0, 2)
    assert (turn.role, turn.until) == ("wait", 114.0)
    assert scheduler.enter([A], 114.0, 2).role == "lead"


def test_patience_with_one_is_not_lost_over_another_that_was_never_sent():
    scheduler: PrefixScheduler[int] = PrefixScheduler(patience=10.0)
    scheduler.sent(scheduler.enter([A], 0.0, 1), 0.0)
    second = scheduler.enter([A], 10.0, 2)
    wait = scheduler.enter([A], 11.0, 3)
    assert (second.role, wait.role, wait.until) == ("lead", "wait", 21.0)
    assert scheduler.cancelled(second) == [3]
    third = scheduler.enter([A], 12.0, 3)
    assert third.role == "lead", "in place of the second"
    assert scheduler.enter([A], 19.0, 4).role == "wait"
    scheduler.cancelled(third)
    assert scheduler.enter([A], 30.0, 4).role == "lead"
    assert scheduler.enter([A], 30.0, 5).role == "lead", "the first has had three times the time"


def test_a_request_that_is_sent_again_is_waited_for_anew():
    """First without an answer, to write the prefix; if that fails, as the prompt itself."""
    scheduler: PrefixScheduler[int] = PrefixScheduler(patience=10.0)
    lead = scheduler.enter([A], 0.0, 1)
    assert not scheduler.is_awaited(lead)
    scheduler.sent(lead, 0.0)
    assert scheduler.enter([A], 1.0, 2).until == 10.0
    assert scheduler.is_awaited(lead)
    scheduler.sent(lead, 8.0)
    assert scheduler.enter([A], 10.0, 2).until == 18.0


def test_answers_that_take_longer_than_an_entry_lives_do_not_line_up():
    scheduler: PrefixScheduler[int] = PrefixScheduler(patience=10_000.0)
    roles = []
    now = 0.0
    for _ in range(4):
        turns = [scheduler.enter([A], now, number) for number in range(40)]
        roles.append(sum(turn.role == "lead" for turn in turns))
        for turn in turns:
            if turn.role == "lead":
                scheduler.began(turn, started=now, now=now + 400.0)
        now += 400.0
    assert roles == [1, 2, 4, 8]


def test_memory_is_bounded():
    scheduler: PrefixScheduler[int] = PrefixScheduler()
    for number in range(40_000):
        each = prefix(str(number))
        scheduler.began(
            scheduler.enter([A, each], float(number) / 1_000, number), started=number / 1_000, now=number / 1_000
        )
        assert len(scheduler) <= 16_385
    assert is_warm(scheduler, each, 40.0)
