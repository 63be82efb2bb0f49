"""Who is next in the line: everybody has a turn, and writers only as fast as what is written can be kept alive."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_deluge.schedule import APART, FairQueue

GROUPS = st.sampled_from([None, APART, b"a", b"b", b"c", b"d"])


def filled(*names: str) -> FairQueue[str]:
    """x1, x2: writers; p1: apart; a1, a2, b1: readers of a prefix."""
    line: FairQueue[str] = FairQueue()
    for name in names:
        group = {"x": None, "p": APART}.get(name[0], name[0].encode())
        line.push(name, group, 0.0)
    return line


def order(line: FairQueue[str], *, every: float = 0.0) -> list[str]:
    now, found = 0.0, []
    while (name := line.pop(now)) is not None:
        found.append(name)
        now += every
    return found


def test_each_has_its_turn():
    line = filled("x1", "x2", "a1", "a2", "a3", "b1", "p1", "x3", "p2", "b2")
    assert order(line) == ["x1", "a1", "b1", "p1", "x2", "a2", "b2", "p2", "x3", "a3"]


def test_writers_stand_back_while_the_turns_come_round_slowly():
    """Half a minute a turn, so that two prefixes and a writer take longer than a minute."""
    names = ["x1", "x2", "a1", "a2", "a3", "b1", "b2"]
    assert order(filled(*names), every=31.0) == ["x1", "a1", "b1", "a2", "b2", "a3", "x2"]
    assert order(filled(*names), every=20.0) == ["x1", "a1", "b1", "x2", "a2", "b2", "a3"]


@pytest.mark.parametrize(("groups", "every"), [(1, 61.0), (1, 149.0), (2, 31.0), (20, 60 / 13)])
def test_a_writer_has_a_turn_once_in_a_while_however_long_others_read(groups, every):
    line: FairQueue[str] = FairQueue()
    line.push("x", None, 0.0)
    for group in range(groups):
        line.push("reader", b"%d" % group, 0.0)
    line.pop(0.0)  # the first turn is the writer's
    line.push("x", None, 0.0)
    now, taken = 0.0, None
    while taken != "x":
        now += every
        taken = line.pop(now)
        for group in range(groups):  # they never end
            line.push("reader", b"%d" % group, now)
        assert now <= 300 + 2 * groups * every + 61


def test_no_writer_has_a_turn_while_entries_would_end_for_it():
    """Sixty prefixes at thirteen turns a minute: it takes 277 seconds until the first has its next one."""
    line: FairQueue[str] = FairQueue()
    line.push("x", None, 0.0)
    for _ in range(20):
        for group in range(60):
            line.push("reader", b"%d" % group, 0.0)
    line.push("x", None, 0.0)
    assert order(line, every=60 / 13)[-1] == "x"


def test_writers_follow_each_other_where_nobody_reads():
    assert order(filled("x1", "x2", "x3"), every=1_000.0) == ["x1", "x2", "x3"]


def test_what_is_apart_has_its_turn_however_slow_it_is():
    assert order(filled("a1", "a2", "a3", "p1", "p2", "p3"), every=1_000.0) == ["a1", "p1", "a2", "p2", "a3", "p3"]


def test_few_prefixes_are_kept_alive_at_a_time():
    """A hundred documents of a hundred questions, thirteen a minute: none waits for long before its next turn."""
    line: FairQueue[tuple[int, int]] = FairQueue()
    for document in range(100):
        line.push((document, 0), None, 0.0)
    now, last, longest = 0.0, {}, 0.0
    writes = Counter()
    while (taken := line.pop(now)) is not None:
        document, number = taken
        if number == 0:
            writes[document] += 1
            for question in range(1, 100):
                line.push((document, question), str(document).encode(), now)
        longest = max(longest, now - last.get(document, now))
        last[document] = now
        now += 60 / 13
    assert writes == dict.fromkeys(range(100), 1)
    assert longest < 200.0


def test_nobody_is_next_who_has_gone():
    gone: set[str] = set()
    line: FairQueue[str] = FairQueue(gone.__contains__)
    for name in ("x1", "a1", "a2", "a3", "b1", "b2", "c1"):
        line.push(name, None if name == "x1" else name[0].encode(), 0.0)
    gone |= {"x1", "a1", "a2", "c1"}
    assert order(line) == ["a3", "b1", "b2"]


@pytest.mark.parametrize("behind", [None, APART])
def test_all_who_are_behind_writers_may_have_gone(behind):
    gone: set[str] = set()
    line: FairQueue[str] = FairQueue(gone.__contains__)
    line.push("x1", None, 0.0)
    line.push("other", b"a", 0.0)
    line.push("another", behind, 0.0)
    gone |= {"other", "another"}
    assert line.pop(100.0) == "x1"
    assert line.pop(100.0) is None


@given(st.lists(st.one_of(GROUPS, st.sampled_from([5.0, 20.0, 70.0]), st.just("pop")), max_size=80))
def test_nobody_is_passed_over_twice_by_another_group(steps):
    """But writers, if it has been more than a minute since their last turn."""
    line: FairQueue[int] = FairQueue()
    waiting: dict[int, bytes | None] = {}  # in the order of their arrival
    passed_over: dict[bytes | None, Counter] = {}
    seen: dict[bytes | None, float] = {}  # since when a group waits for its next turn
    now = 0.0

    def pop():
        taken = line.pop(now)
        assert (taken is None) == (not waiting)
        if taken is None:
            return
        group = waiting[taken]
        assert taken == next(each for each, of in waiting.items() if of == group), "first come, first served"
        del waiting[taken]
        passed_over.pop(group, None)
        seen[group] = now
        for other in set(waiting.values()) - {group}:
            times = passed_over.setdefault(other, Counter())
            times[group] += 1
            assert times[group] <= 1 or (other is None and now - seen[None] > 60)

    for number, step in enumerate(steps):
        if isinstance(step, float):
            now += step
        elif step == "pop":
            pop()
        else:
            if step not in waiting.values():
                seen[step] = now
                passed_over.pop(step, None)
            waiting[number] = step
            line.push(number, step, now)
    while waiting:
        pop()
        now += 10.0
    assert line.pop(now) is None
