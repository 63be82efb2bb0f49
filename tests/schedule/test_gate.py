"""The gate: how many calls pass, which one is next, and what is left of those that gave up."""

import asyncio
import random
from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge.prompt_cache import Prefix
from lm_deluge.schedule import Attempt, Gate, Limits, PrefixScheduler, Stage, Ticket
from lm_deluge.testing import FakeClock


def limits(requests: float = 60, tokens: float = 6_000) -> Limits:
    return Limits(requests_per_minute=requests, tokens_per_minute=tokens)


def gate_of(shared: Limits, *, slots: int, clock, rng=None) -> Gate:
    """A gate whose prefixes a to d are in the provider's cache for ever."""
    prefixes: PrefixScheduler[Ticket] = PrefixScheduler()
    for name in (b"a", b"b", b"c", b"d"):
        prefixes.began(prefixes.enter([prefix_of(name)], 0.0), started=0.0, now=0.0)
    return Gate(shared, prefixes, max_concurrent=slots, clock=clock, rng=rng or random.Random(1))


def prefix_of(id: bytes) -> Prefix:
    return Prefix(id, 5_000, 1_024, 1e12)


def attempt(tokens: float = 1, prefixes: tuple[Prefix, ...] = ()) -> Attempt:
    return Attempt(model="m", tokens=tokens, prefixes=prefixes)


def may_enter(gate: Gate) -> bool:
    """Whether an attempt may go at once. It does not leave."""
    return gate.scheduler.enter(attempt(), gate.now()).stage is Stage.READY


async def settle() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


class Arrivals:
    """Calls at a gate, and in which order they got in."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.entered: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.inside: list[asyncio.Event] = []

    async def come(self, name: str, group: bytes | None = None) -> None:
        """Come to read a prefix, or to write one of its own."""

        async def enter() -> None:
            prefix = prefix_of(f"own {name}".encode() if group is None else group)
            async with self.gate.admission(attempt(prefixes=(prefix,))) as ticket:
                ticket.sent()
                self.entered.append(name)
                over = asyncio.Event()
                self.inside.append(over)
                await over.wait()

        self.tasks[name] = asyncio.create_task(enter())
        await settle()

    def leave(self) -> None:
        """The one that has been inside for longest leaves."""
        self.inside.pop(0).set()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await asyncio.gather(self.tasks[name], return_exceptions=True)
        await settle()


def test_the_gate_never_lets_more_calls_in_than_it_has_slots(instant_clock):
    async def main() -> None:
        gate = gate_of(limits(1e6, 1e9), slots=3, clock=instant_clock)
        inside = most = 0

        async def call() -> None:
            nonlocal inside, most
            async with gate.admission(attempt()):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*(call() for _ in range(50)))
        assert most == 3

    asyncio.run(main())


def test_the_gate_waits_out_limits_in_order(instant_clock):
    async def main() -> list[tuple[int, float]]:
        gate = gate_of(limits(requests=2, tokens=1e9), slots=100, clock=instant_clock)
        entered: list[tuple[int, float]] = []

        async def call(number: int) -> None:
            async with gate.admission(attempt()) as ticket:
                entered.append((number, instant_clock.monotonic()))
                ticket.sent()

        await asyncio.gather(*(call(number) for number in range(6)))
        return entered

    entered = asyncio.run(main())
    assert [number for number, _ in entered] == [0, 1, 2, 3, 4, 5]
    assert [b - a for (_, a), (_, b) in pairwise(entered)][1:] == pytest.approx([30.0] * 4)


def test_the_gate_waits_out_a_pause_and_spreads_what_it_held_back(instant_clock):
    async def main() -> list[float]:
        shared = limits(1e6, 1e9)
        gate = gate_of(shared, slots=100, clock=instant_clock)
        begin = instant_clock.monotonic()
        shared.pause("m", 20, begin)

        async def call() -> float:
            async with gate.admission(attempt()) as ticket:
                ticket.sent()
            return instant_clock.monotonic() - begin

        return await asyncio.gather(*(call() for _ in range(5)))

    assert min(asyncio.run(main())) >= 20


def test_a_cancelled_waiter_takes_no_slot(instant_clock):
    async def main() -> None:
        gate = gate_of(limits(), slots=1, clock=instant_clock)
        async with gate.admission(attempt()):
            waiting = asyncio.create_task(gate.admission(attempt()).__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(60), gate.admission(attempt()):
            pass

    asyncio.run(main())


def test_slots_go_to_one_of_each_group_in_turn(instant_clock):
    async def main() -> list[str]:
        calls = Arrivals(gate_of(limits(1e6, 1e9), slots=1, clock=instant_clock))
        await calls.come("first")
        for name in ("x1", "x2", "a1", "a2", "a3", "b1", "x3", "c1", "b2"):
            await calls.come(name, None if name[0] == "x" else name[:1].encode())
        for _ in range(3):
            calls.leave()
            await settle()
        await calls.come("d1", b"d")  # behind those whose turn it is already
        for _ in range(7):
            calls.leave()
            await settle()
        return calls.entered

    assert asyncio.run(main()) == ["first", "x1", "a1", "b1", "c1", "x2", "a2", "b2", "d1", "x3", "a3"]


def test_the_limits_go_to_those_who_read_before_those_who_write():
    """A call every minute and a second; there are slots for all."""

    async def main() -> list[str]:
        clock = FakeClock()
        calls = Arrivals(gate_of(limits(1, 1e9), slots=100, clock=clock))
        for name in ("now", "x1", "x2", "x3", "a1", "a2", "a3"):
            await calls.come(name, None if name[0] not in "ab" else name[:1].encode())
        assert calls.entered == ["now"]
        for expected in ("x1", "a1"):  # x1 was at the limits before any reader came
            clock.advance(61.0)
            await settle()
            assert calls.entered[-1] == expected
        await calls.come("b1", b"b")
        for _ in range(5):
            clock.advance(61.0)
            await settle()
        return calls.entered[3:]

    assert asyncio.run(main()) == ["a2", "a3", "b1", "x2", "x3"]


def test_whoever_leaves_the_line_at_the_limits_blocks_nobody_behind():
    async def main() -> None:
        clock = FakeClock()
        calls = Arrivals(gate_of(limits(1, 1e9), slots=4, clock=clock))
        for name in ("now", "x1", "x2", "x3"):
            await calls.come(name, None)
        await calls.come("a1", b"a")  # there is no slot
        await calls.cancel("x2")  # stands behind x1; its slot is a1's
        await calls.cancel("x1")  # sleeps until the limits let it through
        clock.advance(60.0)
        await settle()
        assert calls.entered == ["now", "x3"]
        clock.advance(60.0)
        await settle()
        assert calls.entered == ["now", "x3", "a1"]
        for _ in range(3):
            calls.leave()
        clock.advance(600.0)
        assert may_enter(calls.gate)

    asyncio.run(main())


@pytest.mark.parametrize("group", [None, b"a"])
def test_a_slot_that_was_handed_over_in_the_moment_of_a_cancellation_is_passed_on(instant_clock, group):
    async def main() -> list[str]:
        calls = Arrivals(gate_of(limits(), slots=1, clock=instant_clock))
        await calls.come("now")
        await calls.come("gone", group)
        await calls.come("next", group)
        calls.leave()  # hands over to "gone"
        await calls.cancel("gone")
        return calls.entered

    assert asyncio.run(main()) == ["now", "next"]


def test_who_gave_up_costs_its_group_no_turn(instant_clock):
    async def main() -> list[str]:
        calls = Arrivals(gate_of(limits(1e6, 1e9), slots=1, clock=instant_clock))
        await calls.come("now")
        for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
            await calls.come(name, name[:1].encode())
        for name in ("a1", "a2", "c1"):
            await calls.cancel(name)
        for _ in range(3):
            calls.leave()
            await settle()
        return calls.entered

    assert asyncio.run(main()) == ["now", "a3", "b1", "b2"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from([None, None, b"a", b"b", b"c", b"d"])),
        st.tuples(st.just("leave"), st.none()),
        st.tuples(st.just("cancel"), st.integers(0, 100)),
    ),
    max_size=80,
)


@settings(deadline=None)
@given(STEPS, st.integers(1, 3), st.randoms(use_true_random=False))
def test_whoever_comes_and_goes_the_order_holds_and_no_slot_is_lost(steps, slots, rng):
    async def main() -> None:
        clock = FakeClock()
        calls = Arrivals(gate_of(limits(1e6, 1e9), slots=slots, clock=clock, rng=rng))
        waiting: dict[str, bytes | None] = {}  # in the order of their arrival
        passed_over: dict[
            bytes | None, dict[bytes | None, int]
        ] = {}  # how often each other group went while this one waited
        inside = 0

        def took(entered: list[str]) -> None:
            nonlocal inside
            for name in entered:
                group = waiting[name]
                assert name == next(each for each, of in waiting.items() if of == group), "first come, first served"
                del waiting[name]
                inside += 1
                for other in set(waiting.values()) - {group}:
                    times = passed_over.setdefault(other, defaultdict(int))
                    times[group] += 1
                    assert times[group] <= 1, "each group has its turn before another has its second"
                passed_over.pop(group, None)

        for number, (what, which) in enumerate(steps):
            seen = len(calls.entered)
            if what == "come":
                waiting[str(number)] = which
                await calls.come(str(number), which)
            elif what == "leave" and inside:
                inside -= 1
                calls.leave()
                await settle()
            elif what == "cancel" and waiting:
                name = list(waiting)[which % len(waiting)]
                group = waiting.pop(name)
                if group not in waiting.values():
                    passed_over.pop(group, None)
                await calls.cancel(name)
            took(calls.entered[seen:])
            assert inside == slots or not waiting, "nobody waits while a slot is free"
        while inside:
            seen, inside = len(calls.entered), inside - 1
            calls.leave()
            await settle()
            took(calls.entered[seen:])
        assert not waiting
        assert [may_enter(calls.gate) for _ in range(slots + 1)] == [True] * slots + [False]

    asyncio.run(main())
