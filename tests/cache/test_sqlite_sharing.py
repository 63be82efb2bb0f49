"""One SQLite file, many threads and processes: nothing that was stored is lost, whoever is killed or forked."""

import asyncio
import itertools
import multiprocessing
import os
import random
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.prompt import Conversation
from lm_deluge.usage import Usage

from .helpers import answer, finish, kill, prompt, run_child, start_child


def stored(path: Path) -> int:
    """Entries that another process sees."""
    return int(run_child("count", path))


def is_intact(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def crash_rounds(path: Path, rounds: int, processes: int) -> None:
    pick = random.Random(rounds * processes)
    for number in range(rounds):
        children = [start_child("store", path, f"{number}-{child}") for child in range(processes)]
        said: list[str] = []
        wanted = pick.randrange(1, 120)
        for child in children:
            assert child.stdout is not None
            said += itertools.islice(iter(child.stdout.readline, ""), wanted)
        os.kill(children[0].pid, signal.SIGKILL)  # the others go on for a moment
        for child in children:
            said += kill(child).splitlines(keepends=True)
        # A line that was cut off was not said; everything else was stored before.
        keys = [line.strip() for line in said if line.endswith("\n")]
        assert len(set(keys)) == len(keys)
        assert len(keys) >= processes
        with SqliteCache(path) as cache:
            prompts = [Conversation.system("long " * 400).user(key) for key in keys]
            found = asyncio.run(cache.get_many(prompts))
        lost = [key for key, outcome in zip(keys, found, strict=True) if outcome.response is None]
        assert lost == []
        assert all(o.response is not None and o.response.completion == k for o, k in zip(found, keys, strict=True))
        assert is_intact(path)


def test_what_was_stored_survives_kill(tmp_path: Path) -> None:
    crash_rounds(tmp_path / "cache.db", rounds=6, processes=1)


def test_what_several_processes_stored_survives_kill(tmp_path: Path) -> None:
    crash_rounds(tmp_path / "cache.db", rounds=2, processes=3)


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 4])
def test_what_was_stored_survives_many_kills(tmp_path: Path, processes: int) -> None:
    crash_rounds(tmp_path / "cache.db", rounds=200, processes=processes)


def all_write(path: Path, processes: int, count: int) -> None:
    children = [start_child("put", path, f"p{number}", count) for number in range(processes)]
    for child in children:
        finish(child)
    keys = [f"p{process}-{number}" for process in range(processes) for number in range(count)]
    with SqliteCache(path) as cache:
        found = asyncio.run(cache.get_many([prompt(key) for key in keys]))
    assert [outcome.response is not None and outcome.response.completion for outcome in found] == keys
    assert is_intact(path)


def test_eight_processes_lose_nothing(tmp_path: Path) -> None:
    all_write(tmp_path / "cache.db", 8, 200)


@pytest.mark.long
def test_eight_processes_lose_nothing_of_much(tmp_path: Path) -> None:
    all_write(tmp_path / "cache.db", 8, 2_000)


def test_eight_threads_lose_nothing(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    with SqliteCache(tmp_path / "cache.db") as cache:

        def work(name: int) -> None:
            try:
                for number in range(100):
                    cache.put(Conversation.system("long " * 400).user(f"{name}-{number}"), answer(number))
                    assert cache.get(Conversation.system("long " * 400).user(f"{name}-{number}")) == answer(number)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    assert stored(tmp_path / "cache.db") == 800


def test_an_interrupted_run_keeps_what_it_had_handed_over(tmp_path: Path) -> None:
    run_child("interrupted", tmp_path / "cache.db")
    assert stored(tmp_path / "cache.db") == 201


def test_close_stores_what_is_in_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = SqliteCache(tmp_path / "cache.db")

    async def main() -> None:
        tasks = [asyncio.ensure_future(cache.store(prompt(number), answer(number))) for number in range(100)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()

    # A stand-in for a slow disk: nothing is written before the test has asked to close.
    release = threading.Event()
    write = cache.core.writer._write

    def wait_and_write(items: Any) -> None:
        assert release.wait(20)
        write(items)

    monkeypatch.setattr(cache.core.writer, "_write", wait_and_write)
    asyncio.run(main())
    closer = threading.Thread(target=cache.close)
    closer.start()
    while not cache.core.closed:
        os.sched_yield()
    release.set()
    closer.join()
    assert stored(tmp_path / "cache.db") == 100


def in_child(work: Callable[[], None]) -> None:
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_forked_children_and_their_parent_share_the_cache(tmp_path: Path) -> None:
    cache = SqliteCache(tmp_path / "cache.db")
    asyncio.run(cache.store(prompt("before"), answer("before")))

    def work(name: str) -> None:
        assert cache.get(prompt("before")) == answer("before")
        for number in range(50):
            cache.put(prompt(f"{name}-{number}"), answer(number))
        asyncio.run(cache.store(prompt(f"{name}-async"), answer("x")))
        found = asyncio.run(cache.get_many([prompt(f"{name}-async")]))
        assert found[0].response == answer("x")

    children = [multiprocessing.get_context("fork").Process(target=work, args=(name,)) for name in ("a", "b", "c")]
    for child in children:
        child.start()
    for number in range(50):
        cache.put(prompt(f"parent-{number}"), answer(number))
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    cache.close()
    assert stored(tmp_path / "cache.db") == 1 + 3 * 51 + 50


def test_a_parent_that_closes_does_not_take_its_childs_answers(tmp_path: Path) -> None:
    """SQLite's locks are the process's. A child that inherits them in name only writes into a file that is gone."""
    cache = SqliteCache(tmp_path / "cache.db")
    cache.put(prompt("parent"), answer("x"))
    assert cache.get(prompt("parent")) is not None
    written, wrote = os.pipe()
    resumed, resume = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            cache.put(prompt("first"), answer("y"))
            os.write(wrote, b".")
            os.read(resumed, 1)
            for number in range(20):
                cache.put(prompt(f"later {number}"), answer("y"))
            os._exit(0)
        finally:
            os._exit(1)
    os.read(written, 1)
    cache.close()
    assert stored(tmp_path / "cache.db") == 2
    os.write(resume, b".")
    assert os.waitpid(child, 0)[1] == 0
    for end in (written, wrote, resumed, resume):
        os.close(end)
    assert stored(tmp_path / "cache.db") == 22
    assert is_intact(tmp_path / "cache.db")


def test_forks_in_the_middle_of_work(tmp_path: Path) -> None:
    """No child inherits a lock that somebody held, and no write of the parent is torn."""
    cache = SqliteCache(tmp_path / "cache.db")
    stop = threading.Event()
    counts: list[int] = []

    def work() -> None:
        number = 0
        while not stop.is_set():
            cache.put(prompt(f"parent {number}"), answer(number))
            assert cache.get(prompt(f"parent {number}")) is not None
            number += 1
        counts.append(number)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for number in range(15):
            in_child(lambda number=number: cache.put(prompt(f"child {number}"), answer("x")))  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
    cache.close()
    assert stored(tmp_path / "cache.db") == counts[0] + 15
    assert is_intact(tmp_path / "cache.db")


def test_a_second_cache_in_the_process_keeps_the_first_ones_locks(tmp_path: Path) -> None:
    """Closing any descriptor of a file ends all POSIX locks of the process on it; then the WAL has no protection."""
    path = tmp_path / "cache.db"
    first = SqliteCache(path, cache_key="gpt")
    first.put(prompt("p"), answer("x"))
    second = SqliteCache(path, cache_key="claude")
    assert stored(path) == 1  # another process comes, and is the last one as far as the locks say
    assert Path(f"{path}-wal").exists()
    for number in range(5):
        first.put(prompt(number), answer(number))
        second.put(prompt(number), answer(number))
    assert stored(path) == 11
    first.close()
    assert stored(path) == 11
    second.close()
    assert is_intact(path)


def test_a_long_write_elsewhere_stops_no_reader_and_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with SqliteCache(path) as cache:
        cache.put(prompt("p"), answer("x"))
        holder = start_child("hold", path)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        writing = threading.Thread(target=cache.put, args=(prompt("q"), answer("y")))
        writing.start()
        assert cache.get(prompt("p")) == answer("x")
        with SqliteCache(path) as another:  # neither does opening the file wait for it
            assert another.get(prompt("p")) == answer("x")
        assert writing.is_alive()
        finish(holder, "stop\n")
        writing.join()
        assert cache.get(prompt("q")) == answer("y")


def test_a_file_that_is_removed_while_open_is_made_again(tmp_path: Path) -> None:
    """Writing on into the removed file would lose every answer of the run without a word."""
    path = tmp_path / "cache.db"
    with SqliteCache(path) as cache:
        cache.put(Conversation.system("long " * 400).user("old"), answer("old"))
        for found in tmp_path.iterdir():
            found.unlink()
        cache.put(Conversation.system("long " * 400).user("new"), answer("new"))
        assert path.stat().st_mode & 0o777 == 0o600
        assert cache.get(Conversation.system("long " * 400).user("old")) is None
        assert cache.get(Conversation.system("long " * 400).user("new")) == answer("new")
        assert stored(path) == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM blobs").fetchone() == (1,)


def test_only_one_thread_per_cache_writes_in_the_background(tmp_path: Path) -> None:
    def writers() -> int:
        return sum(thread.name == "lm_deluge cache writer" for thread in threading.enumerate())

    before = writers()
    with SqliteCache(tmp_path / "cache.db") as cache:

        async def main() -> None:
            await asyncio.gather(*(cache.store(prompt(number), answer(number)) for number in range(300)))

        threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writers() <= before + 1
        assert stored(tmp_path / "cache.db") == 300


def test_an_answer_that_cannot_be_stored_fails_alone(tmp_path: Path) -> None:
    impossible = msgspec.structs.replace(answer("x"), usage=Usage(input_tokens=2**64 - 1))

    async def main(cache: SqliteCache) -> list[BaseException | None]:
        responses = [answer(0), answer(1), impossible, answer(3)]
        stores = (cache.store(prompt(number), response) for number, response in enumerate(responses))
        return await asyncio.gather(*stores, return_exceptions=True)

    with SqliteCache(tmp_path / "cache.db") as cache:
        outcomes = asyncio.run(main(cache))
        assert [type(outcome) for outcome in outcomes] == [type(None), type(None), OverflowError, type(None)]
        assert [cache.get(prompt(number)) is not None for number in range(4)] == [True, True, False, True]


def test_the_switch_to_wal_waits_for_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    SqliteCache(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        assert reader.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entries").fetchone()
        made: list[SqliteCache] = []
        thread = threading.Thread(target=lambda: made.append(SqliteCache(path)))
        thread.start()
        reader.execute("COMMIT")
        thread.join()
    made[0].put(prompt("p"), answer("x"))
    assert made[0].get(prompt("p")) == answer("x")
    made[0].close()
