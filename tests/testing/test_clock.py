"""The driven clock: time moves only when told, and sleepers wake in order, in whatever thread they sleep."""

import asyncio
import threading

import pytest

from lm_deluge.testing import FakeClock


def test_time_stands_still_until_it_is_advanced() -> None:
    clock = FakeClock(now=100.0)
    assert (clock.time(), clock.monotonic()) == (100.0, 0.0)
    clock.advance(2.5)
    assert (clock.time(), clock.monotonic()) == (102.5, 2.5)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


def test_sleepers_wake_when_due_and_in_order() -> None:
    async def run() -> list[str]:
        clock, woken = FakeClock(), []

        async def sleeper(name: str, seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append(name)

        tasks = [asyncio.create_task(sleeper(*each)) for each in (("late", 3), ("early", 1), ("middle", 2))]
        await asyncio.sleep(0)
        assert clock.sleeping == 3
        clock.advance(2)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert woken == ["early", "middle"]
        clock.advance(1)
        await asyncio.gather(*tasks)
        return woken

    assert asyncio.run(run()) == ["early", "middle", "late"]


def test_a_cancelled_sleeper_is_forgotten() -> None:
    async def run() -> int:
        clock = FakeClock()
        task = asyncio.create_task(clock.sleep(10))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return clock.sleeping

    assert asyncio.run(run()) == 0


def test_another_thread_sleeps_until_this_one_advances() -> None:
    clock, done = FakeClock(), threading.Event()

    def sleep_elsewhere() -> None:
        asyncio.run(clock.sleep(60))
        done.set()

    thread = threading.Thread(target=sleep_elsewhere)
    thread.start()
    clock.wait_for_sleepers()
    assert not done.is_set()
    clock.advance(60)
    thread.join(5)
    assert done.is_set()


def test_sleeping_for_no_time_returns_at_once() -> None:
    asyncio.run(asyncio.wait_for(FakeClock().sleep(0), 60))
