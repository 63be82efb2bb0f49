"""What a run does with its workers, its caller and the event loop."""

import asyncio
import random
import threading
import time

import pytest

from lm_deluge.cache import MemoryCache
from lm_deluge.engine.chunks import Outbox, chunked
from lm_deluge.errors import CacheWarning
from lm_deluge.response import APIResponse
from lm_deluge.schedule import Limits, RetryPolicy
from lm_deluge.schedule.pace import Pace
from lm_deluge.testing import FakeClock, Fault

from .test_endings import watch


def pending_of(client):
    return [engine.pending for engine in client._state.engines()]


def test_a_thousand_duplicates_ask_only_until_the_first_has_finished(emulator, make_client):
    client = make_client(cache=MemoryCache(), max_concurrent_requests=7)
    responses = client.process_prompts_sync(["the same"] * 1_000, show_progress=False)
    assert emulator.calls == 7
    assert sum(r.local_cache_hit for r in responses) == 993


def test_a_prompt_that_waits_for_its_retry_holds_up_no_other(emulator, make_client):
    clock = FakeClock()
    emulator.script([Fault.error(500)])
    client = make_client(clock=clock, max_concurrent_requests=1)

    async def main():
        seen = []
        async for response in client.process_prompts_iter(["first", "second", "third"], show_progress=False):
            seen.append(response.id)
            if len(seen) == 2:
                assert clock.sleeping == 1
                clock.advance(60)
        return seen

    assert asyncio.run(asyncio.wait_for(main(), 60)) == [1, 2, 0]


def test_leaving_early_cancels_what_is_in_flight_and_the_client_goes_on(emulator, make_client):
    client = make_client(cache=MemoryCache(), max_concurrent_requests=5)

    async def main():
        run = client.process_prompts_iter((f"q{i}" for i in range(500)), show_progress=False)
        async for _ in run:
            break
        await run.aclose()
        (pending,) = pending_of(client)
        assert not pending._waiting
        assert len(asyncio.all_tasks()) == 1
        return await client.process_prompts_async(["after"], show_progress=False)

    (after,) = asyncio.run(main())
    assert not after.is_error


def test_a_cancelled_run_leaves_nothing_behind(emulator, make_client):
    client = make_client(cache=MemoryCache())

    async def main():
        with emulator.hold() as gate:
            run = asyncio.create_task(client.process_prompts_async(["a", "b"], show_progress=False))
            await gate.arrived(2)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
        (pending,) = pending_of(client)
        assert not pending._waiting
        return await client.process_prompts_async(["a"], show_progress=False)

    (response,) = asyncio.run(main())
    assert not response.is_error


def test_a_caller_that_does_not_read_stops_the_run_from_running_ahead(emulator, make_client):
    client = make_client(max_concurrent_requests=4)
    asked = 0

    def prompts():
        nonlocal asked
        for number in range(20_000):
            asked += 1
            yield f"q{number}"

    async def main():
        run = client.process_prompts_iter(prompts(), show_progress=False)
        await anext(run)
        before = None
        while before != asked:  # until it no longer moves
            before = asked
            await asyncio.sleep(0.2)  # what is held back does not come however long one waits
        await run.aclose()

    asyncio.run(main())
    assert asked < 6_000


def test_two_runs_of_one_client_share_its_slots(emulator, make_client):
    client = make_client(max_concurrent_requests=3)

    async def main():
        with emulator.hold() as gate:
            runs = [
                asyncio.create_task(client.process_prompts_async([f"{r}-{i}" for i in range(9)], show_progress=False))
                for r in "ab"
            ]
            await gate.arrived(3)
        return await asyncio.gather(*runs)

    first, second = asyncio.run(main())
    assert [r.is_error for r in first + second] == [False] * 18
    assert emulator.max_in_flight <= 3


def test_an_outbox_hands_everything_over_and_says_when_it_ends():
    async def main():
        outbox = Outbox()
        outbox.add(APIResponse(id=1), APIResponse(id=2))
        assert [r.id for r in await outbox.take()] == [1, 2]
        outbox.add(APIResponse(id=3))
        outbox.close()
        assert [r.id for r in await outbox.take()] == [3]
        assert await outbox.take() is None

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_pass_of_the_loop_takes_only_so_many_steps():
    async def main():
        pace, passes, steps = Pace(), 0, []

        async def work() -> None:
            if not pace.step():
                await pace.turn()
            steps.append(passes)

        tasks = [asyncio.create_task(work()) for _ in range(200)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            passes += 1
        return [steps.count(number) for number in set(steps)]

    in_each_pass = asyncio.run(asyncio.wait_for(main(), 60))
    assert sum(in_each_pass) == 200
    assert max(in_each_pass) <= 32


def test_a_step_that_takes_long_ends_the_pass():
    async def main():
        pace = Pace()
        assert pace.step()
        began = time.monotonic()
        while time.monotonic() - began < 0.01:
            pass
        assert not pace.step()
        await asyncio.wait_for(pace.turn(), 60)

    asyncio.run(main())


def test_a_cancelled_turn_is_passed_over():
    async def main():
        pace = Pace()
        while pace.step():
            pass
        waiting = [asyncio.create_task(pace.turn()) for _ in range(3)]
        waiting[0].cancel()
        done = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)
        assert [isinstance(outcome, asyncio.CancelledError) for outcome in done] == [True, False, False]

    asyncio.run(main())


def test_chunks_of_iterables_of_both_kinds():
    async def collect(items):
        source, chunks = chunked(items), []
        try:
            while chunk := await source.take():
                chunks.append(chunk)
        finally:
            await source.close()
        return chunks

    async def numbers():
        for number in range(1_300):
            yield number

    async def broken():
        yield 1
        raise RuntimeError("the source broke")

    for items in (range(1_300), numbers()):
        chunks = asyncio.run(collect(items))
        assert [n for chunk in chunks for n in chunk] == list(range(1_300))
        assert all(0 < len(chunk) <= 512 for chunk in chunks)
    assert asyncio.run(collect([])) == []
    with pytest.raises(RuntimeError, match="the source broke"):
        asyncio.run(collect(broken()))


def test_a_listener_that_raises_is_dropped_and_costs_no_answer(emulator, make_client, caplog):
    heard = []

    def broken(event):
        heard.append(event)
        raise RuntimeError("the display broke")

    client = make_client(listeners=[broken])
    responses = client.process_prompts_sync(["a", "b"], show_progress=False)
    assert [r.is_error for r in responses] == [False, False]
    assert len(heard) == 1
    assert "the display broke" in caplog.text


def test_cancelling_starts_no_further_call(emulator, make_client):
    clock = FakeClock()
    emulator.script([Fault.error(500)] * 4)
    client = make_client(clock=clock, max_concurrent_requests=2)

    async def main():
        run = asyncio.create_task(client.process_prompts_async([f"q{i}" for i in range(4)], show_progress=False))
        while clock.sleeping < 4:  # every prompt waits for its retry
            await asyncio.sleep(0.01)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(run, 60)

    asyncio.run(main())
    assert emulator.calls == 4


@pytest.mark.parametrize("broken", ["get", "put"])
def test_a_cache_that_raises_a_cancellation_of_its_own_loses_nothing(emulator, make_client, broken, recwarn):
    class Odd:
        async def get(self, prompt):
            if broken == "get":
                raise asyncio.CancelledError
            return None

        async def put(self, prompt, response):
            if broken == "put":
                raise asyncio.CancelledError

    client = make_client(cache=Odd(), max_concurrent_requests=2)
    with pytest.warns(CacheWarning):
        responses = client.process_prompts_sync([f"q{i}" for i in range(10)], show_progress=False)
    assert [r.is_error for r in responses] == [False] * 10


def test_answers_in_hand_are_stored_when_the_run_is_cancelled(emulator, make_client):
    stored, go_on = [], threading.Event()

    class Slow:
        def get(self, prompt):
            return None

        def put(self, prompt, response):
            go_on.wait(60)
            stored.append(prompt)

    client = make_client(cache=Slow())
    arrived = watch(client)

    async def main():
        run = asyncio.create_task(client.process_prompts_async([f"q{i}" for i in range(20)], show_progress=False))
        while len(arrived) < 20:
            await asyncio.sleep(0)
        assert not stored
        run.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(main())
    assert len(stored) == 20


def test_a_loop_that_is_over_leaves_no_engine(emulator, make_client):
    client = make_client()
    for _ in range(5):
        client.process_prompts_sync(["x"], show_progress=False)
    assert len(client._state.engines()) == 1


def test_a_waiter_that_gives_up_may_wait_again(emulator, make_client):
    client = make_client()

    async def main():
        with emulator.hold() as gate:
            task_id = client.start_nowait("x")
            await gate.arrived(1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.wait_for(task_id), 0.01)
        return await client.wait_for(task_id)

    assert not asyncio.run(main()).is_error
    assert emulator.calls == 1


def test_an_outage_does_not_pile_up_prompts(emulator, make_client):
    clock = FakeClock()
    emulator.script([Fault.error(500)] * 400)
    client = make_client(clock=clock, max_concurrent_requests=5)

    async def main():
        run = asyncio.create_task(client.process_prompts_async([f"q{i}" for i in range(400)], show_progress=False))
        while clock.sleeping < 19:
            await asyncio.sleep(0.01)
        for _ in range(1_000):
            await asyncio.sleep(0)
        resting = clock.sleeping
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        return resting

    assert asyncio.run(main()) <= 20


def test_a_slow_generator_does_not_hold_the_loop(emulator, make_client):
    answered = []

    def prompts():
        until = time.monotonic() + 60
        while not answered and time.monotonic() < until:
            time.sleep(0.005)
            yield "q"
        assert answered  # answers come while the generator is still being read

    async def main():
        async for response in make_client().process_prompts_iter(prompts(), show_progress=False):
            answered.append(response)

    asyncio.run(main())
    assert answered


def test_absurd_usage_stops_no_client():
    limits = Limits(requests_per_minute=1e6, tokens_per_minute=1_000)
    limits.acquire("m", 10, now=0.0)
    limits.settle(10, 10**12)
    assert limits.acquire("m", 10, now=0.0) <= 121


def test_a_wait_of_zero_is_no_reason_to_hurry():
    policy, rng = RetryPolicy(max_attempts=5), random.Random(1)
    assert all(policy.delay(n, retryable=True, retry_after=0.0, rng=rng) >= 2 ** (n - 1) / 2 for n in range(1, 5))


def test_a_call_that_is_not_made_takes_nothing_from_the_limits(emulator, make_client, instant_clock):
    client = make_client(
        clock=instant_clock, max_requests_per_minute=2, max_concurrent_requests=1, extra_body={"x": object()}
    )
    responses = client.process_prompts_sync([f"q{i}" for i in range(6)], show_progress=False)
    assert all(r.is_error for r in responses)
    assert emulator.calls == 0
    assert not instant_clock.slept
