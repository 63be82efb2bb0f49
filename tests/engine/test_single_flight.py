"""Identical prompts share one call: on one event loop, among threads, and among processes."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lm_deluge.cache import DistributedDictCache, MemoryCache, SqliteCache
from lm_deluge.cache.leases import InProcessLeases, LeaseKeeper
from lm_deluge.errors import CacheWarning
from lm_deluge.testing import Answer, Fault

CHILD = Path(__file__).parent / "flying.py"


class MyCache:
    def __init__(self):
        self.kept = {}

    def get(self, prompt):
        return self.kept.get(prompt.fingerprint)

    def put(self, prompt, response):
        self.kept[prompt.fingerprint] = response


@pytest.fixture(params=["sqlite", "memory", "mapping", "user", "none"])
def cache(request, tmp_path):
    made = {
        "sqlite": lambda: SqliteCache(tmp_path / "cache.db"),
        "memory": MemoryCache,
        "mapping": lambda: DistributedDictCache({}),
        "user": MyCache,
        "none": lambda: None,
    }[request.param]()
    yield made
    if hasattr(made, "close"):
        made.close()


def test_a_hundred_duplicates_are_one_call(emulator, make_client, cache):
    client = make_client(cache=cache, single_flight=True)
    responses = client.process_prompts_sync(["p"] * 100, show_progress=False)
    assert emulator.calls == 1
    assert len({response.completion for response in responses}) == 1
    assert [response.id for response in responses] == list(range(100))
    assert sum(response.local_cache_hit for response in responses) == 99
    assert sum(response.cost or 0 for response in responses) == client.last_report.cost
    report = client.last_report
    assert (report.prompts, report.hits, report.calls, report.errors) == (100, 99, 1, 0)


def test_different_prompts_do_not_wait_for_each_other(emulator, make_client, cache):
    if cache is None:
        pytest.skip("without a cache, only calls in flight are shared")
    client = make_client(cache=cache, single_flight=True, max_concurrent_requests=3)
    prompts = [f"p{number % 20}" for number in range(400)]
    responses = client.process_prompts_sync(prompts, show_progress=False)
    assert emulator.calls == 20
    assert not any(response.is_error for response in responses)


def test_more_duplicates_than_slots_do_not_hold_up_others(emulator, make_client):
    client = make_client(cache=MemoryCache(), single_flight=True, max_concurrent_requests=2)

    async def main():
        with emulator.hold() as gate:
            run = asyncio.create_task(client.process_prompts_async([*["the same"] * 5, "another"], show_progress=False))
            await gate.arrived(2)  # "the same" once, and "another", though only two calls may be under way
            gate.open()
            return await run

    assert not any(response.is_error for response in asyncio.run(main()))
    assert emulator.calls == 2


def test_a_failure_is_not_everybodys(emulator, make_client, cache):
    emulator.script([Fault.error(400)])
    client = make_client(cache=cache, single_flight=True)
    responses = client.process_prompts_sync(["p"] * 100, show_progress=False)
    assert sum(response.is_error for response in responses) == 1
    assert emulator.calls <= 3  # the one that failed, and the two that were let go after it


def test_a_prompt_that_always_fails_keeps_nobody_waiting_for_long(emulator, make_client):
    emulator.script([Fault.error(400)] * 100)
    client = make_client(cache=MemoryCache(), single_flight=True)
    responses = client.process_prompts_sync(["p"] * 100, show_progress=False)
    assert all(response.is_error for response in responses)
    assert emulator.calls == 100


def test_a_refusal_is_not_shared(make_client, cache):
    from lm_deluge.testing import Emulator

    answers = iter([Answer(text="no", refusal="policy")])
    with Emulator(responder=lambda request: next(answers, Answer(text="yes"))) as emulator:
        client = make_client(
            cache=cache, single_flight=True, base_url=emulator.openai_base_url, api_key="any", max_attempts=1
        )
        responses = client.process_prompts_sync(["p"] * 20, show_progress=False)
    assert sum(response.completion == "yes" for response in responses) == 19


def test_a_waiter_that_is_cancelled_harms_nobody(emulator, make_client, cache):
    if cache is None:
        pytest.skip("without a cache, single prompts are runs of their own and share nothing")
    client = make_client(cache=cache, single_flight=True)

    async def main():
        with emulator.hold() as gate:
            leader = asyncio.create_task(client.start("p"))
            await gate.arrived(1)
            waiter, other = (asyncio.create_task(client.start("p")) for _ in range(2))
            await asyncio.sleep(0)  # they have begun, and may be looking it up or waiting for the answer
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            gate.open()
            return await leader, await other

    first, second = asyncio.run(main())
    assert emulator.calls == 1
    assert first.completion == second.completion
    assert second.local_cache_hit


def test_when_the_one_who_asks_is_cancelled_another_takes_over(emulator, make_client, cache):
    if cache is None:
        pytest.skip("without a cache, single prompts are runs of their own and share nothing")
    client = make_client(cache=cache, single_flight=True)

    async def main():
        with emulator.hold() as gate:
            leader = asyncio.create_task(client.start("p"))
            await gate.arrived(1)
            waiter = asyncio.create_task(client.start("p"))
            await asyncio.sleep(0)
            leader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leader
            await gate.arrived(1)  # the leader's request goes with its connection
            gate.open()
            return await waiter

    assert not asyncio.run(main()).is_error
    assert emulator.calls == 2


def test_threads_with_event_loops_of_their_own(emulator, make_client, cache):
    if cache is None:
        pytest.skip("there is nothing that the threads share")
    client = make_client(cache=cache, single_flight=True)
    outcomes = []

    def run():
        outcomes.extend(client.process_prompts_sync(["p"] * 20, show_progress=False))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({response.completion for response in outcomes}) == 1
    assert len(outcomes) == 80
    assert emulator.calls == 1


def test_clients_with_caches_of_their_own_in_one_file(emulator, make_client, tmp_path):
    with SqliteCache(tmp_path / "c.db") as one, SqliteCache(tmp_path / "c.db") as other:
        clients = [make_client(cache=cache, single_flight=True) for cache in (one, other)]

        async def main():
            return await asyncio.gather(
                *(client.process_prompts_async(["p"] * 10, show_progress=False) for client in clients)
            )

        asyncio.run(main())
    assert emulator.calls == 1


class BrokenLeases:
    def acquire(self, keys, holder, *, now, seconds):
        raise OSError("the disk is gone")

    renew = release = acquire


def test_a_store_whose_leases_fail_costs_calls_and_no_answer(emulator, make_client):
    cache = MemoryCache()
    cache.core.leases = BrokenLeases()
    client = make_client(cache=cache, single_flight=True)
    with pytest.warns(CacheWarning, match="a lease of single flight could not be had"):
        responses = client.process_prompts_sync(["p", "q", "p"], show_progress=False)
    assert not any(response.is_error for response in responses)
    assert client.last_report.cache_failures == 2
    assert emulator.calls == 2


def test_a_lease_is_renewed_while_it_is_held_and_given_back():
    class Watched(InProcessLeases):
        renewed = 0

        def renew(self, keys, holder, *, now, seconds):
            self.renewed += 1
            return super().renew(keys, holder, now=now, seconds=seconds)

    leases = Watched()

    async def main():
        keeper, other = LeaseKeeper(leases, seconds=0.03), LeaseKeeper(leases, seconds=0.03)
        assert await keeper.acquire(b"k")
        until = time.monotonic() + 60
        while leases.renewed < 5:
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        keeper.release(b"k")
        await asyncio.to_thread(keeper.close)
        assert await other.acquire(b"k")
        other.release(b"k")
        await asyncio.to_thread(other.close)

    asyncio.run(main())


def test_a_lease_that_comes_for_a_cancelled_waiter_is_given_back():
    release = threading.Event()

    class Slow(InProcessLeases):
        def acquire(self, keys, holder, *, now, seconds):
            release.wait()
            return super().acquire(keys, holder, now=now, seconds=seconds)

    leases = Slow()

    async def main():
        keeper = LeaseKeeper(leases)
        waiter = asyncio.create_task(keeper.acquire(b"k"))
        await asyncio.sleep(0)
        waiter.cancel()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        until = time.monotonic() + 60
        while leases._state.get()[1].acquire([b"k"], b"somebody else", now=time.time(), seconds=1) != [True]:
            assert time.monotonic() < until
            await asyncio.sleep(0.01)

    asyncio.run(main())


def test_a_client_that_is_closed_has_not_failed_for_others(emulator, make_client, tmp_path):
    """Its call in flight ends in an error, and one of those who waited for it asks, not all of them."""
    clients = [make_client(cache=SqliteCache(tmp_path / "c.db"), single_flight=True) for _ in range(4)]
    gate = emulator.hold()

    def ask(client):
        return pool.submit(client.process_prompts_sync, ["q"], show_progress=False)

    def wait_for_calls(count):
        until = time.monotonic() + 30
        while emulator.calls < count and time.monotonic() < until:
            time.sleep(0.01)

    with ThreadPoolExecutor(4) as pool:
        first = ask(clients[0])
        wait_for_calls(1)
        others = [ask(client) for client in clients[1:]]
        time.sleep(0.2)
        clients[0].close()
        assert first.result()[0].is_error
        wait_for_calls(2)
        time.sleep(1.5)  # others look again after half a second
        gate.open()
        assert not any(other.result()[0].is_error for other in others)
    assert emulator.calls == 2


@pytest.mark.parametrize("passes", range(8))
def test_who_is_cancelled_as_the_lease_comes_makes_no_call(emulator, make_client, tmp_path, monkeypatch, passes):
    settle = LeaseKeeper._settle

    def settle_and_cancel(keeper, results):
        settle(keeper, results)
        later(passes)

    def later(left):
        if left:
            asyncio.get_running_loop().call_soon(later, left - 1)
        else:
            for task in asyncio.all_tasks() - keep:
                task.cancel()

    monkeypatch.setattr(LeaseKeeper, "_settle", settle_and_cancel)
    client = make_client(cache=SqliteCache(tmp_path / "c.db"), single_flight=True)
    keep = set()

    async def main():
        keep.add(asyncio.current_task())
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(client.process_prompts_async(["q"], show_progress=False))

    asyncio.run(main())
    assert emulator.calls == 0


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, str(CHILD), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def test_eight_processes_with_a_hundred_duplicates_each_make_one_call(emulator, tmp_path):
    children = [start(tmp_path / "c.db", 100) for _ in range(8)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate(timeout=60)[0].split() for child in children]
    assert [child.returncode for child in children] == [0] * 8
    assert emulator.calls == 1
    assert sum(int(calls) for calls, _ in said) == 1
    assert {answered for _, answered in said} == {"100"}


def test_a_holder_that_is_killed_is_replaced_within_seconds(emulator, tmp_path):
    with emulator.hold() as gate:
        holder = start(tmp_path / "c.db", 100)
        holder.stdin.write("go\n")
        holder.stdin.flush()
        gate.wait(1, timeout=60)
        others = [start(tmp_path / "c.db", 100) for _ in range(2)]
        for child in others:
            assert child.stdout.readline() == "ready\n"
            child.stdin.write("go\n")
            child.stdin.flush()
        holder.kill()
        assert holder.wait() == -signal.SIGKILL
        killed = time.monotonic()
        while emulator.calls < 2:
            assert time.monotonic() - killed < 60  # a lease lasts for six seconds; the rest is a slow machine's
            time.sleep(0.01)
        gate.open()
        for child in others:
            out, _ = child.communicate(timeout=60)
            assert out.split()[1] == "100"
    holder.communicate()
    assert emulator.calls == 2
