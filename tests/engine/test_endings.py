"""However a run ends, what has been paid for is stored, leases are given back, and nobody waits for a writer."""

import asyncio
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from lm_deluge.cache import MemoryCache, SqliteCache
from lm_deluge.cache.leases import InProcessLeases, LeaseKeeper
from lm_deluge.prompt import Conversation
from lm_deluge.testing import Fault


def stored(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM entries").fetchone()[0]


def leases(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM leases").fetchone()[0]


@contextmanager
def locked(path):
    """Somebody else writes, for as long as the block lasts."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def watch(client):
    """The answers that have arrived at a client."""
    arrived = []
    send = client._state.transport.send

    async def watched(request, *, timeout):
        response = await send(request, timeout=timeout)
        arrived.append(response)
        return response

    client._state.transport.send = watched
    return arrived


@pytest.mark.parametrize("single_flight", [False, True])
@pytest.mark.parametrize("ending", ["aclose", "break", "cancel"])
def test_what_has_arrived_is_stored_however_the_run_ends(emulator, make_client, tmp_path, single_flight, ending):
    path = tmp_path / "c.db"
    cache = SqliteCache(path)
    client = make_client(cache=cache, single_flight=single_flight)
    arrived = watch(client)

    async def main():
        run = client.process_prompts_iter([f"q{number}" for number in range(150)], show_progress=False)
        async for _ in run:
            break
        if ending == "aclose":
            await run.aclose()
        elif ending == "cancel":
            task = asyncio.create_task(client.process_prompts_async([f"r{n}" for n in range(50)], show_progress=False))
            while len(arrived) < 160:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    cache.close()
    assert stored(path) == len(arrived)
    assert leases(path) == 0


def test_after_a_run_that_was_left_the_next_one_waits_for_no_lease(emulator, make_client, tmp_path, monkeypatch):
    monkeypatch.setattr("lm_deluge.engine.single_flight.LEASE_SECONDS", 120.0)
    monkeypatch.setitem(LeaseKeeper.__init__.__kwdefaults__, "seconds", 120.0)
    client = make_client(cache=SqliteCache(tmp_path / "c.db"), single_flight=True)
    prompts = [f"q{number}" for number in range(150)]

    async def leave():
        async for _ in client.process_prompts_iter(prompts, show_progress=False):
            break

    asyncio.run(leave())
    began = time.monotonic()
    client.process_prompts_sync(prompts, show_progress=False)
    assert time.monotonic() - began < 60  # a lease that nobody gave back would last for two minutes


def test_the_lease_of_an_answer_that_has_come_outlasts_its_loop(emulator, make_client, tmp_path, monkeypatch):
    """Until it is stored. Who had the lease before would ask again."""
    monkeypatch.setitem(LeaseKeeper.__init__.__kwdefaults__, "seconds", 0.3)
    cache, writes = SqliteCache(tmp_path / "c.db"), threading.Event()
    put_many = cache.backend.put_many

    def put_when_told(entries):
        writes.wait(30)
        put_many(entries)

    monkeypatch.setattr(cache.backend, "put_many", put_when_told)
    client = make_client(cache=cache, single_flight=True)
    arrived = watch(client)
    loop = asyncio.new_event_loop()
    task = loop.create_task(client.process_prompts_async(["q"], show_progress=False))

    async def until_it_comes():
        while not arrived:
            await asyncio.sleep(0)

    loop.run_until_complete(until_it_comes())
    time.sleep(1)  # three lives of a lease that is not renewed, with a loop that does not run
    other = make_client(cache=SqliteCache(tmp_path / "c.db"), single_flight=True)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(other.process_prompts_sync, ["q"], show_progress=False)
        time.sleep(1)
        writes.set()
        assert asked.result()[0].local_cache_hit
    assert emulator.calls == 1
    loop.run_until_complete(task)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(asyncio.sleep(0))  # the last callbacks of the connections that this closes
    loop.close()


def test_tasks_that_nobody_waits_for_are_stored(emulator, make_client, tmp_path):
    path = tmp_path / "c.db"
    cache = SqliteCache(path)
    client = make_client(cache=cache)
    arrived = watch(client)

    async def main():
        for number in range(10):
            client.start_nowait(f"q{number}")
        while len(arrived) < 10:
            await asyncio.sleep(0)

    asyncio.run(main())
    cache.close()
    assert stored(path) == 10


@pytest.mark.parametrize("runs", [1, 12])
def test_hits_do_not_wait_for_a_writer_elsewhere(emulator, make_client, tmp_path, runs):
    path = tmp_path / "c.db"
    client = make_client(cache=SqliteCache(path))
    client.process_prompts_sync(["p"], show_progress=False)

    async def main():
        return await asyncio.gather(*(client.process_prompts_async(["p"], show_progress=False) for _ in range(runs)))

    began = time.monotonic()
    with locked(path):
        answers = asyncio.run(main())
        seconds = time.monotonic() - began
    assert all(response.local_cache_hit for (response,) in answers)
    assert seconds < 30  # the writer would be waited for for a minute
    client.cache.close()
    with SqliteCache(path) as cache:
        assert sum(run.report is not None for run in cache.backend.runs()) == 1 + runs


def test_single_flight_goes_on_without_leases_when_they_do_not_come(emulator, make_client, tmp_path, monkeypatch):
    monkeypatch.setattr("lm_deluge.engine.single_flight.LEASE_SECONDS", 0.2)
    path = tmp_path / "c.db"
    client = make_client(cache=SqliteCache(path), single_flight=True)
    client.process_prompts_sync(["first"], show_progress=False)
    release = threading.Event()

    def hold():
        with locked(path):
            release.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    try:

        async def main():
            task = asyncio.create_task(client.process_prompts_async(["p", "q", "p"], show_progress=False))
            until = time.monotonic() + 60
            while emulator.calls < 3:
                assert time.monotonic() < until
                await asyncio.sleep(0.01)
            release.set()
            return await task

        with pytest.warns(match="a lease of single flight could not be had"):
            responses = asyncio.run(main())
    finally:
        release.set()
        holder.join()
    assert not any(response.is_error for response in responses)


def test_failures_spread_over_event_loops_rather_than_queue(emulator, make_client):
    """Eight threads share a prompt that always fails; they do not fail one after another."""

    holders = set()

    class Watched(InProcessLeases):
        def acquire(self, keys, holder, *, now, seconds):
            holders.add(holder)
            return super().acquire(keys, holder, now=now, seconds=seconds)

    emulator.script([Fault.error(400)] * 8)
    cache = MemoryCache()
    cache.core.leases = Watched()
    client = make_client(cache=cache, single_flight=True)
    outcomes = []

    def run():
        outcomes.extend(client.process_prompts_sync(["p"], show_progress=False))

    threads = [threading.Thread(target=run) for _ in range(8)]
    with emulator.hold() as gate:
        for thread in threads:
            thread.start()
        gate.wait(1, timeout=60)
        until = time.monotonic() + 60
        while len(holders) < 8:
            assert time.monotonic() < until
            time.sleep(0.01)
        gate.release()  # the first fails
        gate.wait(7, timeout=60)  # and all others ask at once
        gate.open()
        for thread in threads:
            thread.join()
    assert [response.is_error for response in outcomes] == [True] * 8


def test_a_run_that_refreshes_gets_nothing_that_was_asked_before_it(emulator, make_client):
    client = make_client(cache=MemoryCache(), single_flight=True)

    async def main():
        with emulator.hold() as gate:
            before = asyncio.create_task(client.process_prompts_async(["p"], show_progress=False))
            await gate.arrived(1)
            after = asyncio.create_task(client.process_prompts_async(["p"], show_progress=False, cache_mode="refresh"))
            await gate.arrived(2)
            gate.open()
            return await before, await after

    (before,), (after,) = asyncio.run(main())
    assert not before.local_cache_hit
    assert not after.local_cache_hit


def test_a_run_with_other_parameters_is_warned_even_if_both_fly_at_once(emulator, make_client):
    client = make_client(cache=MemoryCache(), single_flight=True)
    schema = {"type": "object", "properties": {}, "additionalProperties": False}

    async def main():
        with emulator.hold() as gate:
            plain = asyncio.create_task(client.process_prompts_async(["p"], show_progress=False))
            await gate.arrived(1)
            other = asyncio.create_task(client.process_prompts_async(["p"], show_progress=False, output_schema=schema))
            for _ in range(1_000):
                await asyncio.sleep(0)
            gate.open()
            await plain
            with pytest.warns(match="other parameters"):
                await other

    asyncio.run(main())
    assert emulator.calls == 1


def test_many_samples_of_hits_leave_the_loop_its_turns(emulator, make_client):
    cache = MemoryCache()
    client = make_client(cache=cache)
    (answer,) = client.process_prompts_sync(["q"], show_progress=False)
    for prompt in range(50):
        for sample in range(200):
            cache.put(Conversation.user(f"p{prompt}"), answer, sample=sample)

    async def main():
        gaps = []

        async def watch():
            last = time.perf_counter()
            while True:
                await asyncio.sleep(0)
                gaps.append(time.perf_counter() - last)
                last = time.perf_counter()

        watcher = asyncio.create_task(watch())
        responses = await client.process_prompts_async(
            [f"p{prompt}" for prompt in range(50)], samples=200, show_progress=False
        )
        watcher.cancel()
        assert len(responses) == 10_000
        return len(gaps)

    assert asyncio.run(main()) > 19  # a pass for each 512 of them
