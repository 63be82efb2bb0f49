"""Which requests go first, so that a prefix which many share is written to the provider's cache once and then read.

An entry can be read only once the answer of the request that wrote it has begun. So of requests with one prefix the
first leads, the others wait for its answer to begin, and then all follow. Pure decisions: time is an argument, and who
has to be woken is returned.
"""

import threading
from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

import msgspec

from lm_deluge.prompt_cache import Prefix

__all__ = ["Turn", "Warmth"]

W = TypeVar("W")

_MARGIN = 0.1  # of a lifetime; this long before an entry ends somebody renews it
_CAPACITY = 16_384


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What a request may do.

    Attributes:
        role: ``"lead"``: go, and say how it ended; ``"follow"``: go, the prefix is there; ``"wait"``: until woken.
        prefixes: what the request reads and writes; of one that waits, what it waits for.
        leads: of those, what others may be waiting for.
        until: when one that waits should ask again even if nobody woke it, on the clock that ``now`` comes from.
    """

    role: Literal["lead", "follow", "wait"]
    prefixes: tuple[Prefix, ...] = ()
    leads: tuple[bytes, ...] = ()
    until: float = 0.0


class _Group(Generic[W]):
    """What is known of one prefix."""

    __slots__ = ("deadline", "failures", "leaders", "waiting", "warm_until")

    def __init__(self) -> None:
        self.warm_until = float("-inf")
        self.leaders = 0
        self.failures = 0  # in a row, leaders that took too long included
        self.deadline = 0.0  # when the youngest leader has taken too long
        self.waiting: dict[W, None] = {}


class Warmth(Generic[W]):
    """Knows which prefixes are warm. Shared by all runs of a client, in all threads.

    Of a prefix that is not warm one request leads. If it fails, or its answer has not begun after ``patience``, two
    may, then four, and so on: one at a time would add up the time of every failure, and all at once would pay for every
    write. Shortly before an entry ends one request renews it while the others still read.

    ``W`` is whatever stands for a request that waits, hashable and unlike all others; futures do. The one who asks does
    the waiting, at most until ``turn.until``, and asks again::

        while (turn := warmth.enter(prefixes, now(), waiter)).role == "wait":
            ...

    Each turn that is no wait ends in one of ``began``, ``failed`` and ``cancelled``, and whoever they return is woken.

    Args:
        patience: seconds for which a leader's answer may take to begin.
    """

    def __init__(self, *, patience: float = 60.0) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._groups: dict[bytes, _Group[W]] = {}

    def __len__(self) -> int:
        """Prefixes that are known."""
        return len(self._groups)

    def enter(self, prefixes: Sequence[Prefix], now: float, waiter: W | None = None) -> Turn:
        """Ask whether a request may be sent. One that was told to wait asks again when it is woken.

        Prefixes that are too short for the model's cache are not waited for, and neither are those that are warm.

        Args:
            prefixes: the prefixes of the request's marks, the shortest first.
            now: seconds on a clock that only goes forward.
            waiter: what ``began`` and ``failed`` return when it is time to ask again; None never waits.
        """
        with self._lock:
            chain = [(prefix, self._group(prefix.id)) for prefix in prefixes if prefix.is_cacheable]
            if waiter is not None:
                for _, group in chain:  # it may ask again without having been woken
                    group.waiting.pop(waiter, None)
            # The longest prefix that can be read covers the shorter ones. Those of them that have ended stay so.
            warm = [at for at, (_, group) in enumerate(chain) if now < group.warm_until]
            covered = warm[-1] + 1 if warm else 0
            cold = chain[covered:]
            if cold and waiter is not None:
                first, group = cold[0]
                if not self._may_lead(group, now):
                    group.waiting[waiter] = None
                    return Turn(role="wait", prefixes=(first,), until=group.deadline)
            read = [chain[at] for at in warm]
            led = [each for each in read if self._ends_soon(*each, now) and self._may_lead(each[1], now)] + cold
            for _, group in led:
                group.leaders += 1
                group.deadline = now + self._patience
            self._forget(now)
            return Turn(
                role="lead" if led else "follow",
                prefixes=tuple(prefix for prefix, _ in read + cold),
                leads=tuple(prefix.id for prefix, _ in led),
            )

    def began(self, turn: Turn, *, started: float, now: float) -> list[W]:
        """The answer of a request has begun: what it wrote can be read, and what it read lives anew.

        Args:
            turn: what ``enter`` said.
            started: when the request was sent; lifetimes count from there.
            now: when its answer began.

        Returns:
            those that should ask again.
        """
        with self._lock:
            woken: dict[W, None] = {}
            for prefix in turn.prefixes:
                group = self._group(prefix.id)
                group.warm_until = max(group.warm_until, started + prefix.seconds)
                # An answer that took longer than the entry lives is no use to those that wait.
                group.failures = 0 if group.warm_until > now else group.failures + 1
                woken |= group.waiting
                group.waiting = {}
            self._step_down(turn)
            return list(woken)

    def failed(self, turn: Turn) -> list[W]:
        """A request ended before its answer began. Returns those that should ask again: some of them will lead."""
        with self._lock:
            return self._give_up(turn, failures=1)

    def cancelled(self, turn: Turn, waiter: W | None = None) -> list[W]:
        """A request was given up, while it waited or while it was under way. Says nothing about those after it."""
        with self._lock:
            if waiter is not None:
                for prefix in turn.prefixes:
                    self._group(prefix.id).waiting.pop(waiter, None)
            return self._give_up(turn, failures=0)

    def is_warm(self, prefix: Prefix, now: float) -> bool:
        """Whether a prefix is known to be readable."""
        with self._lock:
            group = self._groups.get(prefix.id)
            return group is not None and now < group.warm_until

    def _may_lead(self, group: _Group[W], now: float) -> bool:
        if group.leaders and now >= group.deadline:
            group.failures += 1
            group.deadline = now + self._patience
        return group.leaders < 1 << min(group.failures, 30)

    @staticmethod
    def _ends_soon(prefix: Prefix, group: _Group[W], now: float) -> bool:
        return group.warm_until - now < prefix.seconds * _MARGIN

    def _give_up(self, turn: Turn, *, failures: int) -> list[W]:
        woken: dict[W, None] = {}
        for id in turn.leads:
            group = self._group(id)
            group.failures += failures
            woken |= group.waiting
            group.waiting = {}
        self._step_down(turn)
        return list(woken)

    def _step_down(self, turn: Turn) -> None:
        for id in turn.leads:
            group = self._group(id)
            group.leaders = max(0, group.leaders - 1)

    def _group(self, id: bytes) -> _Group[W]:
        group = self._groups.get(id)
        if group is None:
            group = self._groups[id] = _Group()
        return group

    def _forget(self, now: float) -> None:
        """Drop what nobody needs once there is much of it: cold prefixes first, then those known for longest."""
        if len(self._groups) <= _CAPACITY:
            return
        idle = [id for id, group in self._groups.items() if not group.leaders and not group.waiting]
        idle.sort(key=lambda id: self._groups[id].warm_until > now)  # keeps the order of arrival otherwise
        for id in idle[: len(self._groups) - _CAPACITY // 2]:
            del self._groups[id]
