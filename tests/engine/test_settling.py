"""From its last byte on an answer is kept, whatever becomes of the loop, the run, the client and the cache."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from lm_deluge import _overdue
from lm_deluge.cache import DistributedDictCache, MemoryCache, SqliteCache
from lm_deluge.errors import CacheWarning, ClosedError
from lm_deluge.schedule.pace import Pace


class Panic(BaseException):
    """What native code raises when it panics."""


def rows(path, table="entries"):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def soon(what, *, seconds=30):
    """Wait for something that another thread does."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def arrivals():
    """Counts what a client's transport has handed on."""

    def watch(client):
        arrived = []
        send = client._state.transport.send

        async def watched(request, *, timeout):
            response = await send(request, timeout=timeout)
            arrived.append(response)
            return response

        client._state.transport.send = watched
        return arrived

    return watch


@pytest.mark.parametrize("single_flight", [False, True])
def test_a_loop_that_stands_still_loses_nothing_and_holds_nothing(
    emulator, make_client, arrivals, tmp_path, single_flight
):
    path = tmp_path / "c.db"
    client = make_client(cache=SqliteCache(path), single_flight=single_flight)
    arrived = arrivals(client)
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(client.process_prompts_async([f"q{n}" for n in range(300)], show_progress=False))

        async def some():
            while len(arrived) < 40:
                await asyncio.sleep(0)

        loop.run_until_complete(some())  # and from here on it is not run any more
        soon(lambda: rows(path) >= len(arrived))
        soon(lambda: not rows(path, "leases"))
        responses = client.process_prompts_sync([f"q{n}" for n in range(300)], show_progress=False)
        assert not any(response.is_error for response in responses)
        assert sum(response.local_cache_hit for response in responses) >= len(arrived) - 300
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def test_what_a_busy_pass_leaves_over_is_settled_without_the_loop(
    emulator, make_client, arrivals, tmp_path, monkeypatch
):
    """No pass has room for it, and the loop ends before another comes."""
    monkeypatch.setattr(Pace, "step", lambda self: False)
    monkeypatch.setattr(Pace, "turn", lambda self: asyncio.sleep(0))

    async def never(self):
        # A task may have been cancelled in the moment in which its answer came, and go on.
        while not asyncio.current_task().cancelling():
            await asyncio.sleep(0.01)
        raise asyncio.CancelledError

    path = tmp_path / "c.db"
    cache = SqliteCache(path)
    client = make_client(cache=cache)
    arrived = arrivals(client)

    async def main():
        task = asyncio.create_task(client.process_prompts_async([f"q{n}" for n in range(50)], show_progress=False))
        while len(arrived) < 10:
            await asyncio.sleep(0)
        monkeypatch.setattr(Pace, "turn", never)
        while len(arrived) < 20:
            await asyncio.sleep(0)
        task.cancel()

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())
    _overdue.flush()
    cache.close()
    assert rows(path) == len(arrived)


def test_a_run_finds_what_the_one_before_it_has_just_received(emulator, make_client, arrivals, tmp_path, monkeypatch):
    cache = SqliteCache(tmp_path / "c.db")
    client = make_client(cache=cache)
    arrived = arrivals(client)
    release, write = threading.Event(), cache.core.writer._write

    def held_up(items):
        release.wait(20)
        return write(items)

    monkeypatch.setattr(cache.core.writer, "_write", held_up)

    async def leave():
        task = asyncio.create_task(client.process_prompts_async([f"q{n}" for n in range(5)], show_progress=False))
        while len(arrived) < 5:
            await asyncio.sleep(0)
        task.cancel()
        threading.Timer(0.2, release.set).start()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def ask():
        return await client.process_prompts_async([f"q{n}" for n in range(5)], show_progress=False)

    leaving = threading.Thread(target=lambda: asyncio.run(leave()))
    leaving.start()
    soon(lambda: len(arrived) == 5 and not cache.core.writer.is_idle)
    responses = asyncio.run(ask())
    leaving.join()
    assert [response.local_cache_hit for response in responses] == [True] * 5


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("make_cache", [MemoryCache, lambda: SqliteCache("c.db")])
def test_what_a_listener_raises_ends_its_run_alone(
    emulator, make_client, arrivals, tmp_path, monkeypatch, error, make_cache
):
    monkeypatch.chdir(tmp_path)
    heard = []

    def listen(event):
        heard.append(event)
        if len(heard) == 5:
            raise error

    cache = make_cache()
    client = make_client(cache=cache, single_flight=True, listeners=[listen])
    arrived = arrivals(client)
    prompts = [f"q{n}" for n in range(30)]
    with pytest.raises(type(error)):
        client.process_prompts_sync(prompts, show_progress=False)
    before = len(arrived)
    responses = client.process_prompts_sync(prompts, show_progress=False)
    assert not any(response.is_error for response in responses)
    assert sum(response.local_cache_hit for response in responses) == before
    cache.close()


@pytest.mark.parametrize("error", [Panic("listener"), asyncio.CancelledError(), GeneratorExit()])
def test_a_listener_that_breaks_in_any_way_is_dropped(emulator, make_client, error):
    def listen(event):
        raise error

    client = make_client(listeners=[listen])
    responses = client.process_prompts_sync([f"q{n}" for n in range(10)], show_progress=False)
    assert [response.is_error for response in responses] == [False] * 10


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), Panic("put"), asyncio.CancelledError()])
def test_what_a_mapping_raises_is_a_failure_of_the_cache(emulator, make_client, error):
    class Mapping(dict):
        def put(self, key, value):
            raise error

    client = make_client(cache=DistributedDictCache(Mapping()))
    with pytest.warns(CacheWarning, match=type(error).__name__):
        responses = client.process_prompts_sync([f"q{n}" for n in range(8)], show_progress=False)
    assert [response.is_error for response in responses] == [False] * 8
    assert client.last_report.cache_failures == 8


@pytest.mark.parametrize("error", [Panic("send"), asyncio.CancelledError(), GeneratorExit()])
def test_what_a_transport_raises_costs_its_prompt_alone(emulator, make_client, error):
    client = make_client()
    send, calls = client._state.transport.send, []

    async def broken(request, *, timeout):
        calls.append(request)
        if len(calls) == 3:
            raise error
        return await send(request, timeout=timeout)

    client._state.transport.send = broken
    responses = client.process_prompts_sync([f"q{n}" for n in range(8)], show_progress=False)
    assert [response.id for response in responses] == list(range(8))
    assert sum(response.is_error for response in responses) <= 1


def test_closing_keeps_what_has_arrived_and_asks_nothing_more(emulator, make_client, arrivals, tmp_path):
    path = tmp_path / "c.db"
    cache = SqliteCache(path)
    client = make_client(cache=cache, max_concurrent_requests=20)
    arrived = arrivals(client)
    outcome, closed_at = [], []

    def close():
        soon(lambda: len(arrived) >= 60)
        client.close()
        closed_at.extend((emulator.calls, len(arrived)))
        cache.close()

    closer = threading.Thread(target=close)
    closer.start()
    outcome = client.process_prompts_sync([f"q{n}" for n in range(600)], show_progress=False)
    closer.join()
    assert [response.id for response in outcome] == list(range(600))
    assert emulator.calls <= closed_at[0] + 20
    assert "closed" in next(response.error_message for response in reversed(outcome))
    # What was in flight and came after both were closed goes to its caller, and is kept nowhere.
    assert closed_at[1] <= rows(path) == sum(response.entry is not None for response in outcome)
    with pytest.raises(ClosedError):
        client.process_prompts_sync(["q"], show_progress=False)


def test_a_cache_that_is_closed_under_a_run_ends_it(emulator, make_client, arrivals, tmp_path):
    cache = SqliteCache(tmp_path / "c.db")
    client = make_client(cache=cache, max_concurrent_requests=5)
    arrived = arrivals(client)

    def close():
        soon(lambda: len(arrived) >= 20)
        cache.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.warns(CacheWarning):
        responses = client.process_prompts_sync([f"q{n}" for n in range(300)], show_progress=False)
    closer.join()
    assert len(responses) == 300
    assert emulator.calls < 300
    assert any("is closed, so this prompt was not asked" in (response.error_message or "") for response in responses)


def test_an_iterator_in_a_variable_is_closed_without_a_word():
    program = """
import asyncio
from lm_deluge import LLMClient
from lm_deluge.transport import MockTransport
from tests.engine.answering import answer

client = LLMClient("gpt-4.1-mini", api_key="k", transport=MockTransport(answer))
kept = None

async def main():
    global kept
    kept = client.process_prompts_iter([f"q{n}" for n in range(50)], show_progress=False)
    async for _ in kept:
        break

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupt_in_our_code_comes_between_two_steps(emulator, make_client, arrivals, tmp_path):
    """It strikes right after an answer has come, where it would lose it."""
    path = tmp_path / "c.db"
    cache = SqliteCache(path)
    client = make_client(cache=cache)
    send, arrived = client._state.transport.send, []

    async def struck(request, *, timeout):
        response = await send(request, timeout=timeout)
        arrived.append(response)
        if len(arrived) in (20, 21):  # the first cancels the run, the second is raised
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1_000):  # it is noticed here
                pass
        return response

    client._state.transport.send = struck
    with pytest.raises(KeyboardInterrupt):
        client.process_prompts_sync([f"q{n}" for n in range(200)], show_progress=False)
    cache.close()
    assert rows(path) == len(arrived)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_loop_of_ones_own_can_be_used_after_an_interrupt(emulator, make_client, tmp_path):
    client = make_client(cache=SqliteCache(tmp_path / "c.db"), single_flight=True)
    prompts = [f"q{n}" for n in range(100)]
    loop = asyncio.new_event_loop()
    try:

        async def interrupted():
            async for response in client.process_prompts_iter(prompts, show_progress=False):
                if response.id > 20:
                    os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(interrupted())
        responses = loop.run_until_complete(client.process_prompts_async(prompts, show_progress=False))
        assert not any(response.is_error for response in responses)
        assert emulator.calls <= 2 * len(prompts)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def test_the_first_answers_of_a_process_do_not_wait_for_their_price(emulator, make_client, tmp_path, monkeypatch):
    path, release = tmp_path / "c.db", threading.Event()
    from lm_deluge.engine import state

    rates_for = state.rates_for

    def slow(model):
        assert release.wait(20)
        return rates_for(model)

    monkeypatch.setattr(state, "rates_for", slow)
    cache = SqliteCache(path)
    client = make_client(cache=cache)
    outcome = []
    thread = threading.Thread(
        target=lambda: outcome.extend(client.process_prompts_sync(["a", "b"], show_progress=False))
    )
    thread.start()
    soon(lambda: rows(path) == 2)
    assert not outcome  # whoever asked gets them with their cost
    release.set()
    thread.join()
    assert all(response.cost for response in outcome)
    again = client.process_prompts_sync(["a", "b"], show_progress=False)
    assert [response.cost_avoided for response in again] == [response.cost for response in outcome]
    assert client.report().unpriced == 0
    cache.close()


def test_an_interrupt_at_the_end_does_not_lose_what_is_being_written(tmp_path):
    """Ctrl-C while the interpreter waits for the writer."""
    program = f"""
import os, signal, threading, time
from lm_deluge.cache.writer import Writer

def write(items):
    time.sleep(0.3)
    open({str(tmp_path / "written")!r}, "w").write("".join(items))

writer = Writer(write)
writer.submit("a")
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (tmp_path / "written").read_text() == "a", done.stderr
