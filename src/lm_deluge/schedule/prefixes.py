"""Which requests go first, so that a prefix which many share is written to the provider's cache once and then read.

An entry can be read only once the answer of the request that wrote it has begun. So of requests with one prefix the
first leads, the others wait for its answer to begin, and then all follow. Pure decisions: time is an argument, and who
has to be woken is returned.
"""

import threading
from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

import msgspec

from lm_deluge._locks import renewed
from lm_deluge.prompt_cache import Prefix
from lm_deluge.schedule.fair_queue import APART

__all__ = ["PrefixScheduler", "PrefixTicket"]

W = TypeVar("W")

_MARGIN = 0.1  # of a lifetime; this long before an entry ends somebody renews it
_CAPACITY = 16_384


class PrefixTicket(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a request may do as far as its prefixes go. Each ticket is equal to itself only.

    Attributes:
        role: ``"lead"``: go, and say how it ended; ``"follow"``: go, the prefix is there; ``"wait"``: until woken.
        prefixes: what the request reads and writes; of one that waits, what it waits for.
        leads: of those, what others may be waiting for.
        is_of_use: whether others than those with the same prompt can read anything of what it leads.
        group: the longest prefix that the request reads, as ``FairQueue.push`` takes it. None if it writes another that
            is of use to more than itself, and ``APART`` if it does neither.
        until: when one that waits should ask again even if it was not woken, on the clock that ``now`` comes from.
    """

    role: Literal["lead", "follow", "wait"]
    prefixes: tuple[Prefix, ...] = ()
    leads: tuple[bytes, ...] = ()
    is_of_use: bool = False
    group: bytes | None = APART
    until: float = 0.0


class _Group(msgspec.Struct, Generic[W], eq=False):
    """What is known of one prefix. Leaders go in rounds: one fails when its last leader has ended and none began."""

    warm_until: float = float("-inf")
    lives: float = 0.0  # seconds after each use, as was asked by the one that wrote it
    leaders: int = 0  # in flight
    unsent: int = 0  # of those
    started: int = 0  # leaders of this round so far; none if none is in flight
    failures: int = 0  # rounds in a row, those that took too long included
    deadline: float = 0.0  # when the leader that was sent last has taken too long
    waiting: dict[W, None] = {}
    returning: dict[W, None] = {}  # were woken and have not asked again

    @property
    def is_idle(self) -> bool:
        """Whether no request asks any more."""
        return not (self.leaders or self.waiting or self.returning)

    def wake(self) -> dict[W, None]:
        """Those who waited, and are to ask again."""
        woken, self.waiting = self.waiting, {}
        self.returning |= woken
        return woken

    def succeed(self) -> dict[W, None]:
        """Begin from scratch: what failed is forgotten, and those who still lead are the round."""
        self.failures = 0
        self.started = self.leaders
        return self.wake()

    def end_round(self) -> dict[W, None]:
        """End the round if no leader is left of it."""
        if self.leaders:
            return {}
        if self.started:
            self.failures += 1
            self.started = 0
        return self.wake()


class PrefixScheduler(Generic[W]):
    """Decides who leads and who follows. Knows which prefixes are warm. Shared by all runs of a client, in all threads.

    Of a prefix that is not warm one request leads. If it fails, or its answer has not begun after ``patience``, two
    may; if they all fail four, and so on: one at a time would add up the time of every failure, and all at once would
    pay for every write. What failed is forgotten with the first success, and when no request asks any more. Shortly
    before an entry ends one request renews it while the others still read.

    ``W`` stands for a request that waits. It is hashable and unlike all others. The one who asks does
    the waiting, at most until ``ticket.until``, and asks again::

        while (ticket := scheduler.enter(prefixes, now(), waiter)).role == "wait":
            ...

    Each ticket that is no wait ends in one of ``began``, ``failed`` and ``cancelled``, and those that they return are
    woken. Before that, when its request goes out, ``holds`` says whether the ticket is still right, and ``sent`` is
    told. An entry lives as long as its writer asked, not as long as its readers ask.

    Args:
        patience: seconds for which a leader's answer may take to begin, from when its request is sent.
    """

    def __init__(self, *, patience: float = 60.0) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._groups: dict[bytes, _Group[W]] = {}
        self._forget_at = _CAPACITY
        self._unsent: set[PrefixTicket] = set()  # those that lead
        self._leaders: dict[PrefixTicket, W] = {}
        renewed(self)

    def _at_fork_reinit(self) -> None:
        """In a child no request leads or waits."""
        self._lock = threading.Lock()
        self._groups.clear()
        self._unsent.clear()
        self._leaders.clear()

    def __len__(self) -> int:
        """Prefixes that are known."""
        return len(self._groups)

    def enter(self, prefixes: Sequence[Prefix], now: float, waiter: W | None = None) -> PrefixTicket:
        """Ask whether a request may be sent. One that was told to wait asks again when it is woken.

        Prefixes that are too short for the model's cache are not waited for, and neither are those that are warm.

        Args:
            prefixes: the prefixes of the request's breakpoints, the shortest first.
            now: seconds on a clock that only goes forward.
            waiter: who asks. ``began`` and ``failed`` return it when it is time to ask again. None never waits.
        """
        with self._lock:
            chain = [(prefix, self._group(prefix.id)) for prefix in prefixes if prefix.is_cacheable]
            for _, group in chain:
                if group.failures and group.is_idle:
                    group.failures = 0
                if waiter is not None:
                    group.returning.pop(waiter, None)
            # The longest prefix that can be read covers the shorter ones. Those of them that have ended stay so.
            warm = [at for at, (_, group) in enumerate(chain) if now < group.warm_until]
            covered = warm[-1] + 1 if warm else 0
            cold = chain[covered:]
            if cold and waiter is not None:
                first, group = cold[0]
                if not self._may_lead(group, now):
                    group.waiting.setdefault(waiter)  # one that asks again, without having been woken, keeps its place
                    for _, other in chain:
                        if other is not group:
                            other.waiting.pop(waiter, None)
                    until = now + self._patience if group.unsent else group.deadline
                    return PrefixTicket(role="wait", prefixes=(first,), until=until)
            if waiter is not None:
                for _, group in chain:
                    group.waiting.pop(waiter, None)
            read = [chain[at] for at in warm if at == warm[-1] or chain[at][0].is_renewed]
            led = [each for each in read if self._ends_soon(each[1], now) and self._may_lead(each[1], now)] + cold
            ticket = PrefixTicket(
                role="lead" if led else "follow",
                prefixes=tuple(prefix for prefix, _ in read + cold),
                leads=tuple(prefix.id for prefix, _ in led),
                is_of_use=any(not prefix.is_whole for prefix, _ in led),
                group=None if any(not prefix.is_whole for prefix, _ in cold) else read[-1][0].id if read else APART,
            )
            if led:
                self._unsent.add(ticket)
                if waiter is not None:
                    self._leaders[ticket] = waiter
                for _, group in led:
                    group.leaders += 1
                    group.unsent += 1
                    group.started += 1
            self._forget(now)
            return ticket

    def holds(self, ticket: PrefixTicket, now: float) -> bool:
        """Whether all that a ticket was told to read can still be read. If not, cancel the ticket and ask again."""
        with self._lock:
            return all(prefix.id in ticket.leads or self._is_warm(prefix.id, now) for prefix in ticket.prefixes)

    def sent(self, ticket: PrefixTicket, now: float) -> None:
        """A request goes out. Patience with it counts from here: before, it waited for the client's own limits."""
        with self._lock:
            self._leave_unsent(ticket)
            for id in ticket.leads:
                self._groups[id].deadline = now + self._patience

    def is_awaited(self, ticket: PrefixTicket) -> bool:
        """Whether others wait for what a ticket leads."""
        with self._lock:
            return any(self._groups[id].waiting for id in ticket.leads)

    def leaders(self) -> list[tuple[PrefixTicket, W]]:
        """The tickets that lead now, and whose they are."""
        with self._lock:
            return list(self._leaders.items())

    def began(self, ticket: PrefixTicket, *, started: float, now: float) -> list[W]:
        """The answer of a request has begun: what it wrote can be read, and what it read lives again.

        Args:
            ticket: what ``enter`` said.
            started: when the request was sent; lifetimes count from there.
            now: when its answer began.

        Returns:
            those that should ask again.
        """
        with self._lock:
            self._step_down(ticket)
            woken: dict[W, None] = {}
            for prefix in ticket.prefixes:
                group = self._group(prefix.id)
                if started >= group.warm_until:
                    group.lives = prefix.seconds
                group.warm_until = max(group.warm_until, started + group.lives)
                if now < group.warm_until:
                    woken |= group.succeed()
                elif (
                    prefix.id in ticket.leads
                ):  # it took longer than the entry lives, which is no use to those that wait
                    woken |= group.end_round()
            return list(woken)

    def failed(self, ticket: PrefixTicket) -> list[W]:
        """A request ended before its answer began. Returns those that should ask again: some of them will lead."""
        with self._lock:
            woken: dict[W, None] = {}
            for group in self._step_down(ticket):
                woken |= group.end_round()
            return list(woken)

    def cancelled(self, ticket: PrefixTicket, waiter: W | None = None) -> list[W]:
        """A request was given up, while it waited or while it was in flight. Says nothing about those after it."""
        with self._lock:
            if waiter is not None:
                for prefix in ticket.prefixes:
                    group = self._group(prefix.id)
                    group.waiting.pop(waiter, None)
                    group.returning.pop(waiter, None)
            woken: dict[W, None] = {}
            for group in self._step_down(ticket):
                group.started -= 1  # another may go in its place
                woken |= group.end_round() | group.wake()
            return list(woken)

    def _may_lead(self, group: _Group[W], now: float) -> bool:
        if group.leaders and not group.unsent and now >= group.deadline:
            group.failures += 1
            group.deadline = now + self._patience
        return group.started < 1 << min(group.failures, 30)

    def _is_warm(self, id: bytes, now: float) -> bool:
        group = self._groups.get(id)
        return group is not None and now < group.warm_until

    @staticmethod
    def _ends_soon(group: _Group[W], now: float) -> bool:
        return group.warm_until - now < group.lives * _MARGIN

    def _leave_unsent(self, ticket: PrefixTicket) -> None:
        if ticket in self._unsent:
            self._unsent.remove(ticket)
            for id in ticket.leads:
                self._groups[id].unsent -= 1

    def _step_down(self, ticket: PrefixTicket) -> list[_Group[W]]:
        """Take a ticket's leader away from its groups, and return them."""
        self._leave_unsent(ticket)
        self._leaders.pop(ticket, None)
        groups = [self._groups[id] for id in ticket.leads]
        for group in groups:
            group.leaders -= 1
        return groups

    def _group(self, id: bytes) -> _Group[W]:
        group = self._groups.get(id)
        if group is None:
            group = self._groups[id] = _Group()
        return group

    def _forget(self, now: float) -> None:
        if len(self._groups) > self._forget_at:
            self._drop_idle(now)
            # Those in use stay, and are not looked at each time.
            self._forget_at = max(_CAPACITY, 2 * len(self._groups))

    def _drop_idle(self, now: float) -> None:
        """Drop what is not in use: cold prefixes first, then those known for longest."""
        idle = [id for id, group in self._groups.items() if group.is_idle]
        idle.sort(key=lambda id: self._groups[id].warm_until > now)  # keeps the order of arrival otherwise
        for id in idle[: len(self._groups) - _CAPACITY // 2]:
            del self._groups[id]
