"""The scheduler: whatever comes and goes, tickets follow the table, no slot is lost and none waits without an end."""

import random
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge.prompt_cache import Prefix
from lm_deluge.schedule import Attempt, Limits, PrefixScheduler, Scheduler, Stage, Ticket
from lm_deluge.schedule.ticket import TRANSITIONS, table

SLOTS = 3


class Driver:
    """Lets tickets move on in the order in which they were woken."""

    is_abandoned = False

    def __init__(self, limits: Limits, rng: random.Random) -> None:
        self.now = 0.0
        self.woken: list[Ticket] = []
        self.tickets: list[Ticket] = []
        self.moves: Counter[tuple[Stage, Stage]] = Counter()
        driver = self

        class Watched(Scheduler):
            @staticmethod
            def _to(ticket: Ticket, stage: Stage, *, until: float | None = None) -> None:
                driver.moves[ticket.stage, stage] += 1
                Scheduler._to(ticket, stage, until=until)

        self.prefixes: PrefixScheduler[Ticket] = PrefixScheduler()
        self.scheduler = Watched(limits, self.prefixes, slots=SLOTS, rng=rng, driver=self)

    def wake(self, ticket: Ticket) -> None:
        self.woken.append(ticket)

    def wake_followers(self, tickets: list[Ticket]) -> None:
        self.woken += tickets

    def enter(self, attempt: Attempt) -> None:
        self.tickets.append(self.scheduler.enter(attempt, self.now))

    def settle(self) -> None:
        """Let all move on that can."""
        while movable := [
            *self.woken,
            *(each for each in self.tickets if each.stage is Stage.LEADER),
            *(each for each in self.tickets if each.until is not None and each.until <= self.now),
        ]:
            self.woken = []
            for ticket in movable:
                self.scheduler.move(ticket, self.now)

    def of(self, *stages: Stage) -> list[Ticket]:
        return [each for each in self.tickets if each.stage in stages and each.problem is None]


def prefixes(names: str) -> tuple[Prefix, ...]:
    return tuple(Prefix(name.encode(), 5_000, 1_024, 300.0) for name in names)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["enter", "enter", "enter", "rest", "send", "send", "begin", "fail", "refuse", "done", "leave", "wait"]
        ),
        st.integers(0, 100),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
def test_tickets_follow_the_table_and_nothing_is_leaked(steps, rng):
    limits = Limits(requests_per_minute=20, tokens_per_minute=1e6, give_up_after=200)
    driver = Driver(limits, rng)
    scheduler = driver.scheduler
    chains = [prefixes(names) for names in ("", "a", "ab", "ac", "d", "de")]

    def one(number, *stages):
        found = driver.of(*stages)
        return found[number % len(found)] if found else None

    for what, number in steps:
        if what == "enter":
            prefill = 5.0 if number % 3 == 0 else None
            driver.enter(Attempt(model="m", tokens=10, prefixes=chains[number % len(chains)], prefill=prefill))
        elif what == "rest":
            driver.tickets.append(scheduler.rest(Attempt(model="m", tokens=0), number, driver.now))
        elif what == "send" and (ticket := one(number, Stage.READY)) and ticket.has_slot:
            scheduler.sent(ticket, driver.now)
        elif what == "begin" and (ticket := one(number, Stage.SENT)):
            scheduler.began(ticket, started=driver.now, now=driver.now)
            limits.answered("m")
        elif what == "fail" and (ticket := one(number, Stage.SENT)):
            if not ticket.is_prefill:
                scheduler.failed(ticket)
        elif what == "refuse" and (ticket := one(number, Stage.SENT)):
            limits.failed("m", "no", sent=driver.now, now=driver.now, refused=True, asked=None, rng=rng)
        elif what == "done" and (ticket := one(number, Stage.SENT)):
            scheduler.done(ticket, driver.now)
            if ticket.is_prefill:
                scheduler.resume(ticket, driver.now)
            else:
                scheduler.leave(ticket, driver.now)
        elif what == "leave" and (ticket := one(number, *set(Stage) - {Stage.OVER})):
            scheduler.leave(ticket, driver.now)
        elif what == "wait":
            driver.now += number
        driver.settle()
        holders = [each for each in driver.tickets if each.has_slot]
        assert len(holders) <= SLOTS
        assert len(holders) == SLOTS or not driver.of(Stage.SLOT), "none waits for a slot while one is free"
        assert len(driver.of(Stage.HEAD)) <= 1
        assert driver.of(Stage.HEAD) or not driver.of(Stage.QUEUE)
    for ticket in driver.tickets:
        scheduler.leave(ticket, driver.now)
    driver.settle()
    assert scheduler._slots == SLOTS
    assert not scheduler._has_head
    assert not driver.prefixes.leaders()
    for before, after in driver.moves:
        assert after in (*TRANSITIONS[before][1], before, Stage.OVER), f"{before} to {after} is not in the table"


def test_each_stage_is_in_the_table():
    assert set(TRANSITIONS) == set(Stage)
    assert table().count("\n") == len(Stage) + 1


def test_no_prefill_is_sent_once_none_waits_for_it():
    driver = Driver(Limits(requests_per_minute=1, tokens_per_minute=1e6), random.Random(1))
    scheduler = driver.scheduler
    driver.enter(Attempt(model="m", tokens=10))  # takes what the limits have
    driver.enter(Attempt(model="m", tokens=10, prefixes=prefixes("a"), prefill=5.0))
    driver.enter(Attempt(model="m", tokens=10, prefixes=prefixes("a")))
    _, leader, follower = driver.tickets
    driver.settle()
    assert (leader.stage, leader.is_prefill, follower.stage) == (Stage.HEAD, True, Stage.FOLLOWER)
    scheduler.leave(follower, driver.now)
    driver.now = 61.0
    driver.settle()
    assert (leader.stage, leader.is_prefill) == (Stage.READY, False)


def test_a_ticket_whose_prefix_has_ended_at_the_limits_begins_again():
    driver = Driver(Limits(requests_per_minute=1, tokens_per_minute=1e6), random.Random(1))
    scheduler = driver.scheduler
    scheduler.began(scheduler.enter(Attempt(model="m", tokens=10, prefixes=prefixes("a")), 0.0), started=0.0, now=0.0)
    driver.enter(Attempt(model="m", tokens=10))
    for _ in range(2):
        driver.enter(Attempt(model="m", tokens=10, prefixes=prefixes("a")))
    driver.settle()
    driver.now = 400.0
    driver.settle()
    assert [each.stage for each in driver.tickets] == [Stage.READY, Stage.READY, Stage.FOLLOWER]


def test_a_follower_that_is_woken_when_it_has_moved_on_by_itself_goes_nowhere():
    """Another thread wakes it, in the moment in which its patience ends here."""
    driver = Driver(Limits(requests_per_minute=1e6, tokens_per_minute=1e6), random.Random(1))
    for _ in range(SLOTS):
        driver.enter(Attempt(model="m", tokens=10))
    driver.enter(Attempt(model="m", tokens=10, prefixes=prefixes("a")))
    ticket = driver.tickets[-1]
    driver.settle()
    assert (ticket.stage, ticket.has_slot) == (Stage.SLOT, False)
    ticket.is_woken = True
    driver.scheduler.move(ticket, driver.now)
    assert (ticket.stage, ticket.has_slot) == (Stage.SLOT, False)
    driver.scheduler.leave(driver.tickets[0], driver.now)
    driver.settle()
    assert (ticket.stage, ticket.has_slot) == (Stage.READY, True)


def test_the_document_has_the_table():
    text = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert table() in text
