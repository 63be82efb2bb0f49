"""Runs that span calls: single prompts belong to a run, and what they do and cost is in the accounts of the cache."""

import asyncio
import os
import threading

import pytest

from lm_deluge.cache import MemoryCache, SqliteCache
from lm_deluge.testing import Fault

from .test_settling import soon


def runs_of(cache):
    return list(cache.backend.runs())


@pytest.fixture(params=["sqlite", "memory"])
def cache(request, tmp_path):
    with SqliteCache(tmp_path / "c.db") if request.param == "sqlite" else MemoryCache() as made:
        yield made


def test_single_prompts_of_a_client_are_one_run(emulator, make_client, cache):
    client = make_client(cache=cache)

    async def main():
        await client.start("a")
        await client.start("b")
        ids = [client.start_nowait(prompt) for prompt in ("a", "c", "d")]
        await client.wait_for_all(ids)

    asyncio.run(main())
    (run,) = runs_of(cache)
    assert (run.name, run.tags, run.models) == (None, (), ("gpt-4.1-mini",))
    assert (run.report.prompts, run.report.calls, run.report.hits) == (5, 4, 1)
    assert run.report.cost == pytest.approx(client.report().cost)
    assert run.report.cost_avoided > 0
    assert {entry.facts.run for entry in cache.backend.scan()} == {run.id}


def test_it_has_its_name_and_tags_from_the_first_prompt_on(emulator, make_client, cache):
    client = make_client(cache=cache)

    async def main():
        with emulator.hold() as gate:
            task = client.start_nowait("a", run_name="chat", tags=["eval"])
            await gate.arrived(1)
            await asyncio.to_thread(soon, lambda: runs_of(cache))
            (run,) = runs_of(cache)
            assert (run.name, run.tags, run.report) == ("chat", ("eval",), None)
            gate.open()
            await client.wait_for(task)

    asyncio.run(main())
    (run,) = runs_of(cache)
    assert run.report.calls == 1


def test_prompts_with_other_names_or_tags_are_other_runs(emulator, make_client, cache):
    client = make_client(cache=cache)

    async def main():
        await client.start("a", run_name="first")
        await client.start("b", run_name="second", tags="eval")
        await client.start("c", run_name="first")
        await client.start("d", run_name="second")

    asyncio.run(main())
    found = {(run.name, run.tags): run.report.prompts for run in runs_of(cache)}
    assert found == {("first", ()): 2, ("second", ("eval",)): 1, ("second", ()): 1}


def test_a_run_spans_event_loops_and_threads(emulator, make_client, cache):
    client = make_client(cache=cache)
    for prompt in ("a", "b"):
        asyncio.run(client.start(prompt))

    def work(number):
        async def main():
            await asyncio.gather(*(client.start(f"{number}-{n}") for n in range(20)))

        asyncio.run(main())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (run,) = runs_of(cache)
    assert run.report.prompts == run.report.calls == 82
    assert run.report.cost == pytest.approx(client.report().cost)


def test_each_batch_is_a_run_of_its_own_beside_it(emulator, make_client, cache):
    client = make_client(cache=cache)
    asyncio.run(client.start("a", run_name="same"))
    client.process_prompts_sync(["b", "c"], run_name="same", show_progress=False)
    client.process_prompts_sync(["b"], run_name="same", show_progress=False)
    assert sorted(run.report.prompts for run in runs_of(cache)) == [1, 1, 2]


def test_an_error_is_in_the_account(emulator, make_client, cache):
    emulator.script([Fault.error(400)])
    client = make_client(cache=cache)
    assert asyncio.run(client.start("a")).is_error
    (run,) = runs_of(cache)
    assert (run.report.prompts, run.report.errors, run.report.calls) == (1, 1, 1)


def test_a_prompt_that_is_cancelled_leaves_its_call_in_the_account(emulator, make_client, cache):
    client = make_client(cache=cache)

    async def main():
        with emulator.hold() as gate:
            task = asyncio.create_task(client.start("a"))
            await gate.arrived(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await client.start("b")

    asyncio.run(main())
    (run,) = runs_of(cache)
    assert (run.report.calls, run.report.prompts) == (2, 1)


def test_hits_alone_are_in_the_account_once_the_cache_is_closed(emulator, make_client, tmp_path):
    path = tmp_path / "c.db"
    with SqliteCache(path) as cache:
        make_client(cache=cache).process_prompts_sync(["p"], show_progress=False)
    with SqliteCache(path) as cache:
        client = make_client(cache=cache)

        async def main():
            for _ in range(100):
                await client.start("p", run_name="hits")

        asyncio.run(main())
    with SqliteCache(path) as cache:
        (run,) = [run for run in runs_of(cache) if run.name == "hits"]
    assert (run.report.prompts, run.report.hits, run.report.calls) == (100, 100, 0)


def test_a_prompt_that_bypasses_the_cache_is_in_no_account(emulator, make_client, cache):
    client = make_client(cache=cache)
    asyncio.run(client.start("a", cache_mode="bypass"))
    assert not runs_of(cache)
    assert client.report().calls == 1


def test_the_run_ends_with_its_client(emulator, make_client, cache):
    client = make_client(cache=cache)
    asyncio.run(client.start("a"))
    client.close()
    asyncio.run(make_client(cache=cache).start("b"))
    assert [run.report.prompts for run in runs_of(cache)] == [1, 1]


def test_a_program_with_a_name_for_each_prompt_piles_nothing_up(emulator, make_client, cache):
    client = make_client(cache=cache)

    async def main():
        for number in range(1_100):
            await client.start("p", run_name=f"conversation {number}")

    asyncio.run(main())
    assert len(client._state.accounts) <= 1_024


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_a_run_of_its_own(emulator, make_client):
    client = make_client(cache=MemoryCache())
    own = client._state.account(None, ()).id
    assert client._state.account(None, ()).id == own
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, str(client._state.account(None, ()).id).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    assert int(os.read(reading, 100)) != own
    os.close(reading)
