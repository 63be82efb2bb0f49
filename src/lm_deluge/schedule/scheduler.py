"""Who goes, and when: the one place that decides it. Pure: time is an argument, and nothing here waits.

An attempt enters and gets a ``Ticket``, which passes from stage to stage until it may go (``schedule.ticket`` has them
as a table). Slots, fair queues, limits, pauses and the prefix scheduler are parts of this one.

Two drivers use it: an event loop (``schedule.gate``), and a simulation (``engine.simulator``). The scheduler says which
tickets can move on now (it wakes them), or when (``Ticket.until``). The driver lets them, and tells the scheduler what
becomes of their requests.
"""

import random
from collections.abc import Iterable
from typing import Protocol

from lm_deluge.errors import UnavailableError
from lm_deluge.schedule.fair_queue import FairQueue
from lm_deluge.schedule.limits import Limits
from lm_deluge.schedule.prefixes import PrefixScheduler
from lm_deluge.schedule.ticket import Attempt, Stage, Ticket

__all__ = ["Driver", "Scheduler"]


class Driver(Protocol):
    """What lets tickets move on."""

    @property
    def is_abandoned(self) -> bool:
        """Whether it does not run any more, so that nothing will be heard of its tickets."""
        ...

    def wake(self, ticket: Ticket) -> None:
        """A ticket can move on."""
        ...

    def wake_followers(self, tickets: list[Ticket]) -> None:
        """Tickets can move on whose leader may be another driver's. Called from any thread."""
        ...


class Scheduler:
    """Decides for the attempts of one event loop, or of one simulation.

    Args:
        limits: requests and tokens per minute, and the health of models. May be shared with other schedulers.
        prefixes: who leads and who follows. May be shared likewise.
        slots: requests in flight at once.
        rng: spreads the attempts that a pause held back.
        driver: whose scheduler it is.
    """

    def __init__(
        self,
        limits: Limits,
        prefixes: PrefixScheduler[Ticket],
        *,
        slots: int,
        rng: random.Random,
        driver: Driver,
    ) -> None:
        self._limits = limits
        self._prefixes = prefixes
        self._rng = rng
        self._driver = driver
        self._slots = slots
        self._for_slots: FairQueue[Ticket] = FairQueue(_is_over)
        # One attempt at a time waits for the limits, so that a large one is not overtaken for ever by small ones.
        self._has_head = False
        self._for_limits: FairQueue[Ticket] = FairQueue(_is_over)

    def enter(self, attempt: Attempt, now: float) -> Ticket:
        """The ticket of an attempt, which may go when its stage is ``READY``. Give each to ``leave`` in the end."""
        ticket = Ticket(self, attempt)
        self._start(ticket, now)
        return ticket

    def rest(self, attempt: Attempt, seconds: float, now: float) -> Ticket:
        """The ticket of an attempt that waits for its retry, and for nothing else.

        It has a problem as soon as the model is given up.
        """
        ticket = Ticket(self, attempt)
        ticket.retry_at = now + seconds
        if attempt.on_wait is not None:
            attempt.on_wait(1, 0.0)
        ticket.stage = Stage.REST
        ticket.since = now
        self._rest(ticket, now)
        return ticket

    def move(self, ticket: Ticket, now: float) -> None:
        """Let a ticket move on that was woken, or that leads, or whose time has come. No other moves."""
        if not ticket.is_woken and (ticket.until is None or now < ticket.until):
            return
        ticket.is_woken = False
        ticket.until = None
        match ticket.stage:
            case Stage.FOLLOWER:
                self._start(ticket, now)
            case Stage.LEADER:
                # Those that came with a leader follow by now, so it is known whether there is something to prefill for.
                may_prefill = ticket.attempt.prefill is not None and not ticket.is_prefilled
                ticket.is_prefill = may_prefill and self._is_awaited(ticket)
                self._ask_for_slot(ticket, now)
            case Stage.SLOT | Stage.PAUSE if ticket.has_slot:
                self._ask_limits(ticket, now)
            case Stage.HEAD:
                self._lead_the_queue(ticket, now)
            case Stage.REST:
                self._rest(ticket, now)
            case _:
                pass  # it was woken by another thread, in the moment in which it moved on by itself

    def may_be_awaited(self, ticket: Ticket) -> bool:
        """Whether others wait for the answer to begin, or may come to: not for a prompt that is one's own alone."""
        prefix = ticket.prefix
        return prefix is not None and (prefix.is_of_use or self._prefixes.is_awaited(prefix))

    def sent(self, ticket: Ticket, now: float) -> None:
        """The request of a ticket that may go is sent."""
        self._to(ticket, Stage.SENT)
        if ticket.prefix is not None:
            self._prefixes.sent(ticket.prefix, now)

    def began(self, ticket: Ticket, *, started: float, now: float) -> None:
        """The answer has begun to the request that was sent at ``started``: its prefix can be read."""
        prefix, ticket.prefix = ticket.prefix, None
        if prefix is not None:
            self._wake(self._prefixes.began(prefix, started=started, now=now))

    def failed(self, ticket: Ticket) -> None:
        """The request has ended without an answer."""
        prefix, ticket.prefix = ticket.prefix, None
        if prefix is not None:
            self._wake(self._prefixes.failed(prefix))

    def done(self, ticket: Ticket, now: float) -> None:
        """The exchange is over, and the slot is free."""
        self._to(ticket, Stage.DONE)
        self._free_slot(ticket, now)

    def resume(self, ticket: Ticket, now: float) -> None:
        """The prefill is over. Now the attempt itself goes: as a reader if the answer had begun, else as the leader."""
        ticket.is_prefill = False
        if ticket.prefix is None:
            ticket.is_prefilled = True
            self._start(ticket, now)
        else:
            self._ask_for_slot(ticket, now)

    def leave(self, ticket: Ticket, now: float) -> None:
        """The ticket is over. If its request neither began nor failed, it was cancelled."""
        stage, prefix = ticket.stage, ticket.prefix
        if stage is Stage.OVER:
            return
        self._to(ticket, Stage.OVER)
        if stage is Stage.READY and ticket.has_slot:
            self._limits.give_back(ticket.share)
        elif stage is Stage.HEAD:
            self._pass_on(now)
        elif stage in (Stage.FOLLOWER, Stage.REST) and ticket.attempt.on_wait is not None:
            ticket.attempt.on_wait(-1, None)
        self._free_slot(ticket, now)
        ticket.prefix = None
        if prefix is not None:
            self._wake(self._prefixes.cancelled(prefix, ticket if stage is Stage.FOLLOWER else None))

    def cancel_abandoned(self) -> None:
        """Cancel the leaders whose drivers do not run any more, for nothing will ever be heard of them."""
        for prefix, leader in self._prefixes.leaders():
            if leader.scheduler._driver.is_abandoned and leader.prefix is prefix:
                leader.prefix = None
                self._wake(self._prefixes.cancelled(prefix))

    def _start(self, ticket: Ticket, now: float) -> None:
        """Follow, lead, or have nothing to do with others."""
        attempt = ticket.attempt
        if attempt.prefixes:
            was_follower = ticket.stage is Stage.FOLLOWER
            prefix = ticket.prefix = self._prefixes.enter(attempt.prefixes, now, ticket)
            if prefix.role == "wait":
                if not was_follower:
                    ticket.since = now
                    if attempt.on_wait is not None:
                        attempt.on_wait(1, 0.0)
                self._to(ticket, Stage.FOLLOWER, until=prefix.until)
                return
            if was_follower and attempt.on_wait is not None:
                attempt.on_wait(-1, now - ticket.since)
            if prefix.leads:
                self._to(ticket, Stage.LEADER)
                ticket.is_woken = True
                return
        self._ask_for_slot(ticket, now)

    def _ask_for_slot(self, ticket: Ticket, now: float) -> None:
        self._to(ticket, Stage.SLOT)
        ticket.since = now
        if self._slots:
            self._slots -= 1
            ticket.has_slot = True
            self._ask_limits(ticket, now)
        else:
            self._for_slots.push(ticket, ticket.group, now)

    def _ask_limits(self, ticket: Ticket, now: float) -> None:
        """Go at once, or wait for the end of a pause, or for one's turn at the limits."""
        model = ticket.attempt.model
        if not self._has_head and not self._limits.acquire(model, ticket.share, now):
            self._let_go(ticket, now)
            return
        try:
            self._limits.check(model, now)
        except UnavailableError as problem:
            ticket.problem = problem
            return
        if paused := self._limits.paused_for(model, now):
            # A little apart, so the attempts that were held back do not all come in the same instant.
            apart = paused + self._rng.uniform(0, min(1.0, paused / 4))
            until = now + min(apart, self._limits.gives_up_in(model, now) or apart)
            self._to(ticket, Stage.PAUSE, until=until)
        elif self._has_head:
            self._to(ticket, Stage.QUEUE)
            self._for_limits.push(ticket, ticket.group, now)
        else:
            self._has_head = True
            self._lead_the_queue(ticket, now)

    def _lead_the_queue(self, ticket: Ticket, now: float) -> None:
        """Be the one that waits for the limits to refill."""
        model = ticket.attempt.model
        wait = self._limits.acquire(model, ticket.share, now)
        if not wait:
            self._pass_on(now)
            self._let_go(ticket, now)
        elif self._limits.paused_for(model, now):
            self._pass_on(now)  # not here, where attempts with other models stand behind
            self._ask_limits(ticket, now)
        else:
            self._to(ticket, Stage.HEAD, until=now + wait)

    def _let_go(self, ticket: Ticket, now: float) -> None:
        """It may go, unless what it was to read has ended meanwhile, or none waits any more for its prefill."""
        prefix = ticket.prefix
        holds = prefix is None or self._prefixes.holds(prefix, now)
        if holds and not (ticket.is_prefill and not self._is_awaited(ticket)):
            ticket.queued = now - ticket.since
            self._to(ticket, Stage.READY)
            return
        self._limits.give_back(ticket.share)
        self._free_slot(ticket, now)
        ticket.is_prefill = False
        if prefix is None or holds:
            self._ask_for_slot(ticket, now)
            return
        ticket.prefix = None
        self._wake(self._prefixes.cancelled(prefix))
        self._start(ticket, now)

    def _rest(self, ticket: Ticket, now: float) -> None:
        attempt = ticket.attempt
        left = ticket.retry_at - now
        if left > 0:
            try:
                self._limits.check(attempt.model, now)
            except UnavailableError as problem:
                ticket.problem = problem
                return
            until = now + min(left, self._limits.gives_up_in(attempt.model, now) or left)
            self._to(ticket, Stage.REST, until=until)
            return
        self._to(ticket, Stage.READY)
        if attempt.on_wait is not None:
            attempt.on_wait(-1, now - ticket.since)

    def _is_awaited(self, ticket: Ticket) -> bool:
        return ticket.prefix is not None and self._prefixes.is_awaited(ticket.prefix)

    def _free_slot(self, ticket: Ticket, now: float) -> None:
        """Free a ticket's slot, or hand it over, so that none that comes later gets in first."""
        if not ticket.has_slot:
            return
        ticket.has_slot = False
        following = self._for_slots.pop(now)
        if following is None:
            self._slots += 1
        else:
            following.has_slot = True
            self._awaken(following)

    def _pass_on(self, now: float) -> None:
        """Hand over the head of the queue at the limits."""
        following = self._for_limits.pop(now)
        if following is None:
            self._has_head = False
        else:
            self._to(following, Stage.HEAD)
            self._awaken(following)

    def _awaken(self, ticket: Ticket) -> None:
        """Wake one of this scheduler's own."""
        ticket.is_woken = True
        self._driver.wake(ticket)

    def _wake(self, tickets: Iterable[Ticket]) -> None:
        """Wake followers, those of other schedulers too."""
        woken: dict[Scheduler, list[Ticket]] = {}
        for ticket in tickets:
            ticket.is_woken = True
            woken.setdefault(ticket.scheduler, []).append(ticket)
        for scheduler, followers in woken.items():
            scheduler._driver.wake_followers(followers)

    @staticmethod
    def _to(ticket: Ticket, stage: Stage, *, until: float | None = None) -> None:
        ticket.stage = stage
        ticket.until = until


def _is_over(ticket: Ticket) -> bool:
    return ticket.stage is Stage.OVER
