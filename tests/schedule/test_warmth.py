"""Warm fan-out, decision by decision: who leads, who waits, and what they do after a failure."""

import msgspec
import pytest

from lm_deluge.prompt_cache import Prefix
from lm_deluge.schedule import APART, Turn, Warmth


def prefix(name: str, tokens: int = 5_000, seconds: float = 300.0) -> Prefix:
    return Prefix(name.encode(), tokens, 1_024, seconds)


def is_warm(warmth: Warmth[int], read: Prefix, now: float) -> bool:
    return warmth.holds(Turn(role="follow", prefixes=(read,)), now)


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
    assert is_warm(warmth, A, 299.9)
    assert not is_warm(warmth, A, 300.0)
    follow = warmth.enter([A], 200.0, 2)
    assert not is_warm(warmth, A, 300.0), "it may still fail on its way"
    warmth.began(follow, started=201.0, now=260.0)
    assert is_warm(warmth, A, 500.9)
    assert not is_warm(warmth, A, 501.0)
    warmth.began(Turn(role="follow", prefixes=(A,)), started=150.0, now=300.0)
    assert is_warm(warmth, A, 500.9), "an answer that comes late takes nothing away"


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
    assert not is_warm(warmth, A, 401.0), "nobody wrote it again"


def test_a_round_that_fails_hands_over_to_twice_as_many():
    warmth: Warmth[int] = Warmth()
    waiting = set(range(100))
    leaders = [warmth.enter([A], 0.0, waiting.pop())]
    assert {warmth.enter([A], 0.0, number).role for number in waiting} == {"wait"}
    rounds = []
    while leaders:
        rounds.append(len(leaders))
        *others, last = leaders
        assert [warmth.failed(leader) for leader in others] == [[]] * len(others), "the round is not over"
        woken = set(warmth.failed(last))
        assert woken == waiting
        turns = {number: warmth.enter([A], 1.0, number) for number in woken}
        leaders = [turn for turn in turns.values() if turn.role == "lead"]
        waiting = {number for number, turn in turns.items() if turn.role == "wait"}
    assert rounds == [1, 2, 4, 8, 16, 32, 37]


def test_who_comes_while_a_round_fails_waits_for_its_end():
    warmth: Warmth[int] = Warmth()
    first = warmth.enter([A], 0.0, 1)
    assert warmth.enter([A], 0.0, 2).role == "wait"
    assert warmth.failed(first) == [2]
    two = [warmth.enter([A], 1.0, number) for number in (2, 3)]
    assert [turn.role for turn in two] == ["lead"] * 2
    assert warmth.failed(two[0]) == []
    assert warmth.enter([A], 2.0, 4).role == "wait", "one of two has failed, and the other one is under way"
    assert warmth.began(two[1], started=1.0, now=3.0) == [4]
    assert is_warm(warmth, A, 3.0)


def test_a_success_ends_the_doubling():
    warmth: Warmth[int] = Warmth()
    lead, wait = warmth.enter([A], 0.0, 1), warmth.enter([A], 0.0, 2)
    assert wait.role == "wait"
    warmth.failed(lead)
    two = [warmth.enter([A], 1.0, number) for number in (2, 3)]
    warmth.began(two[0], started=1.0, now=2.0)
    assert warmth.failed(two[1]) == [], "the entry is there, whatever became of the other one"
    assert [warmth.enter([A], 400.0, number).role for number in (4, 5, 6)] == ["lead", "wait", "wait"]


def test_what_failed_is_forgotten_when_nobody_asks_any_more():
    """A key that is wrong fails 15 prompts of one run; the next run, with the right one, writes once."""
    warmth: Warmth[int] = Warmth()
    asking, rounds = list(range(15)), []
    while asking:
        turns = {number: warmth.enter([A], 0.0, number) for number in asking}
        leaders = [turn for turn in turns.values() if turn.role == "lead"]
        rounds.append(len(leaders))
        asking = [number for leader in leaders for number in warmth.failed(leader)]
    assert rounds == [1, 2, 4, 8]
    assert [warmth.enter([A], 1.0, number).role for number in (20, 21, 22)] == ["lead", "wait", "wait"]


@pytest.mark.parametrize("leaves", ["while it waits", "after it was woken"])
def test_those_that_gave_up_do_not_keep_a_failure_alive(leaves):
    warmth: Warmth[int] = Warmth()
    lead, wait = warmth.enter([A], 0.0, 1), warmth.enter([A], 0.0, 2)
    if leaves == "while it waits":
        warmth.cancelled(wait, 2)
        assert warmth.failed(lead) == []
    else:
        assert warmth.failed(lead) == [2]
        warmth.cancelled(wait, 2)
    assert [warmth.enter([A], 1.0, number).role for number in (3, 4)] == ["lead", "wait"]


def test_one_that_was_woken_and_has_not_asked_yet_keeps_the_round():
    warmth: Warmth[int] = Warmth()
    lead = warmth.enter([A], 0.0, 1)
    assert warmth.enter([A], 0.0, 2).role == "wait"
    assert warmth.failed(lead) == [2]
    assert [warmth.enter([A], 1.0, number).role for number in (3, 2, 4)] == ["lead", "lead", "wait"]


def test_what_reads_only_says_what_it_reads():
    warmth: Warmth[int] = Warmth()
    first = warmth.enter([A, INNER], 0.0, 1)
    assert first.group is None
    warmth.began(first, started=0.0, now=1.0)
    assert warmth.enter([A], 2.0, 2).group == A.id
    assert warmth.enter([A, INNER], 2.0, 3).group == INNER.id
    assert warmth.enter([A, OTHER_INNER], 2.0, 4).group is None, "it writes the inner one"
    renewal = warmth.enter([A, INNER], 299.0, 5)
    assert (renewal.role, renewal.group) == ("lead", INNER.id)
    assert warmth.enter([A, SHORT], 2.0, 6).group == A.id
    assert warmth.enter([SHORT], 2.0, 7).group == warmth.enter([], 2.0, 8).group == APART


def test_what_writes_only_its_own_end_reads_what_is_before_it():
    """Its write is of no use to others, so it takes its turn with them."""
    warmth: Warmth[int] = Warmth()
    ends = [msgspec.structs.replace(each, is_whole=True) for each in (INNER, OTHER_INNER)]
    first = warmth.enter([A, ends[0]], 0.0, 1)
    assert first.group is None
    warmth.began(first, started=0.0, now=1.0)
    second = warmth.enter([A, ends[1]], 2.0, 2)
    assert (second.role, second.group) == ("lead", A.id)
    assert warmth.enter([msgspec.structs.replace(B, is_whole=True)], 2.0, 3).group == APART


def test_an_entry_lives_as_long_as_its_writer_asked():
    """A read with a longer lifetime renews the entry that is there."""
    warmth: Warmth[int] = Warmth()
    long = msgspec.structs.replace(A, seconds=3_600.0)
    first = warmth.enter([A], 0.0, 1)
    warmth.began(first, started=0.0, now=1.0)
    for waiter, at in enumerate((10.0, 250.0), start=2):
        reader = warmth.enter([long], at, waiter)
        assert reader.role == "follow"
        warmth.began(reader, started=at, now=at + 1.0)
    assert warmth.enter([long], 549.0, 4).role == "lead", "it ends soon"
    writer = warmth.enter([long], 551.0, 5)
    assert writer.role == "wait"
    again: Warmth[int] = Warmth()
    first = again.enter([long], 0.0, 1)
    again.began(first, started=0.0, now=1.0)
    reader = again.enter([A], 3_000.0, 2)
    again.began(reader, started=3_000.0, now=3_001.0)
    assert again.enter([A], 6_000.0, 3).role == "follow"


def test_a_read_renews_the_shorter_prefixes_where_the_provider_does():
    for renews, role in [(True, "follow"), (False, "lead")]:
        warmth: Warmth[int] = Warmth()
        outer = msgspec.structs.replace(A, is_renewed=renews)
        first = warmth.enter([outer, INNER], 0.0, 1)
        warmth.began(first, started=0.0, now=1.0)
        second = warmth.enter([outer, INNER], 200.0, 2)
        warmth.began(second, started=200.0, now=201.0)
        assert warmth.enter([outer], 400.0, 3).role == role
        assert warmth.enter([outer, INNER], 400.0, 4).role == "follow"


def test_many_prefixes_in_use_are_not_looked_at_again_and_again():
    """Each prompt of a large batch waits or leads, so nothing can be forgotten; that is found out a few times only."""
    looks = 0

    class Counting(Warmth[int]):
        def _drop_idle(self, now: float) -> None:
            nonlocal looks
            looks += 1
            super()._drop_idle(now)

    warmth = Counting()
    turns = [warmth.enter([prefix(f"many{number}")], 0.0, number) for number in range(70_000)]
    assert looks <= 3
    for turn in turns:
        warmth.began(turn, started=0.0, now=1.0)
    for number in range(140_000):
        turn = warmth.enter([prefix(f"more{number}")], 1_000.0, number)
        warmth.failed(turn)
    assert len(warmth) <= 16_384


def test_a_turn_holds_as_long_as_what_it_reads():
    warmth: Warmth[int] = Warmth()
    lead = warmth.enter([A, INNER], 0.0, 1)
    assert warmth.holds(lead, 1_000.0), "it was told to read nothing"
    warmth.began(lead, started=0.0, now=1.0)
    follow = warmth.enter([A, INNER], 200.0, 2)
    writer = warmth.enter([A, OTHER_INNER], 200.0, 3)
    assert warmth.holds(follow, 299.9)
    assert warmth.holds(writer, 299.9)
    warmth.began(warmth.enter([A], 250.0, 4), started=250.0, now=251.0)
    assert not warmth.holds(follow, 300.0), "the inner one has ended"
    assert warmth.holds(writer, 300.0)
    assert not warmth.holds(writer, 550.0)
    assert warmth.cancelled(follow) == []
    again = warmth.enter([A, INNER], 300.0, 2)
    assert (again.role, again.leads) == ("lead", (INNER.id,))


def test_a_renewal_that_comes_late_writes_and_is_waited_for():
    warmth: Warmth[int] = Warmth()
    warmth.began(warmth.enter([A], 0.0, 1), started=0.0, now=1.0)
    renewal = warmth.enter([A], 299.0, 2)
    assert warmth.holds(renewal, 310.0)
    assert warmth.enter([A], 310.0, 3).role == "wait"


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
    warmth.sent(slow, 0.0)
    turns = [warmth.enter([A], 5.0, number) for number in (2, 3)]
    assert [(turn.role, turn.until) for turn in turns] == [("wait", 10.0)] * 2
    second = warmth.enter([A], 10.0, 2)
    assert second.role == "lead"
    warmth.sent(second, 11.0)
    assert (warmth.enter([A], 12.0, 3).role, warmth.enter([A], 12.0, 3).until) == ("wait", 21.0)
    assert warmth.began(slow, started=0.0, now=15.0) == [3]
    assert warmth.enter([A], 15.0, 3).role == "follow"


def test_patience_with_a_leader_counts_from_when_it_is_sent():
    warmth: Warmth[int] = Warmth(patience=10.0)
    lead = warmth.enter([A], 0.0, 1)
    for now in (5.0, 15.0, 100.0):
        turn = warmth.enter([A], now, 2)
        assert (turn.role, turn.until) == ("wait", now + 10.0), "it waits for this client's own limits"
    warmth.sent(lead, 104.0)
    turn = warmth.enter([A], 110.0, 2)
    assert (turn.role, turn.until) == ("wait", 114.0)
    assert warmth.enter([A], 114.0, 2).role == "lead"


def test_patience_with_one_is_not_lost_over_another_that_was_never_sent():
    warmth: Warmth[int] = Warmth(patience=10.0)
    warmth.sent(warmth.enter([A], 0.0, 1), 0.0)
    second = warmth.enter([A], 10.0, 2)
    wait = warmth.enter([A], 11.0, 3)
    assert (second.role, wait.role, wait.until) == ("lead", "wait", 21.0)
    assert warmth.cancelled(second) == [3]
    third = warmth.enter([A], 12.0, 3)
    assert third.role == "lead", "in place of the second"
    assert warmth.enter([A], 19.0, 4).role == "wait"
    warmth.cancelled(third)
    assert warmth.enter([A], 30.0, 4).role == "lead"
    assert warmth.enter([A], 30.0, 5).role == "lead", "the first has had three times the time"


def test_a_request_that_is_sent_again_is_waited_for_anew():
    """First without an answer, to write the prefix; if that fails, as the prompt itself."""
    warmth: Warmth[int] = Warmth(patience=10.0)
    lead = warmth.enter([A], 0.0, 1)
    assert not warmth.is_awaited(lead)
    warmth.sent(lead, 0.0)
    assert warmth.enter([A], 1.0, 2).until == 10.0
    assert warmth.is_awaited(lead)
    warmth.sent(lead, 8.0)
    assert warmth.enter([A], 10.0, 2).until == 18.0


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
    assert roles == [1, 2, 4, 8]


def test_memory_is_bounded():
    warmth: Warmth[int] = Warmth()
    for number in range(40_000):
        each = prefix(str(number))
        warmth.began(warmth.enter([A, each], float(number) / 1_000, number), started=number / 1_000, now=number / 1_000)
        assert len(warmth) <= 16_385
    assert is_warm(warmth, each, 40.0)
