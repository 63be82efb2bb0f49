"""A forked child uses what it inherited, whatever the threads of its parent were doing at that moment."""

import ast
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lm_deluge import Conversation, LLMClient
from lm_deluge.cache import DistributedDictCache, MemoryCache, RedisCache, SqliteCache
from lm_deluge.cache.stores.mapping import MappingStore
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.stores.sqlite import file as _sqlite_file
from lm_deluge.engine.warnings import Advisor
from lm_deluge.models import resolve
from lm_deluge.prompt_cache.prefix_index import PrefixIndex, PrefixIndexes
from lm_deluge.prompt_cache.routing_keys import RoutingKeys
from lm_deluge.prompt_cache.write_audit import WriteLog
from lm_deluge.schedule.limits import Limits
from lm_deluge.schedule.prefixes import Prefix, PrefixScheduler
from lm_deluge.testing._expect import in_child as forked

from ..cache.helpers import answer, prompt
from ..cache.redis_server import RedisServer

SOURCE = Path(__file__).parents[2] / "src" / "lm_deluge"
SECONDS = 30.0

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@contextmanager
def held(lock: Any) -> Iterator[None]:
    """Another thread has the lock."""
    has, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            has.set()
            over.wait(2 * SECONDS)

    thread = threading.Thread(target=hold)
    thread.start()
    has.wait(SECONDS)
    try:
        yield
    finally:
        over.set()
        thread.join()


PROMPT = Conversation.system("long " * 2_000).user("hello")
MODEL = resolve("gpt-4.1-mini", environ={})
LOCKS: dict[str, Callable[[Path], tuple[Any, Callable[[], object]]]] = {}


def lock(make: Callable[[Path], tuple[Any, Callable[[], object]]]) -> None:
    LOCKS[make.__name__.strip("_").replace("_", " ")] = make


@lock
def _limits(_: Path) -> Any:
    limits = Limits(requests_per_minute=10, tokens_per_minute=10)
    return limits._lock, lambda: limits.acquire("m", 1, 0.0)


@lock
def _prefix_scheduler(_: Path) -> Any:
    scheduler: PrefixScheduler[str] = PrefixScheduler()
    return scheduler._lock, lambda: scheduler.enter((), 0.0).role


@lock
def _write_log(_: Path) -> Any:
    log = WriteLog()
    return log._lock, lambda: log.add((), 0, 0.0)


@lock
def _routing_keys(_: Path) -> Any:
    keys = RoutingKeys()
    return keys._lock, lambda: keys.pick("key", 1.0, 0.0)


@lock
def _prefix_index(_: Path) -> Any:
    index = PrefixIndex(MODEL)
    return index._lock, lambda: index.add([PROMPT])


@lock
def _prefix_indexes(_: Path) -> Any:
    indexes = PrefixIndexes()
    return indexes._lock, lambda: len(indexes.get(MODEL, (), b""))


@lock
def _advisor(_: Path) -> Any:
    advisor = Advisor()
    return advisor._lock, lambda: advisor.say(None, MODEL, [])  # type: ignore[arg-type, func-returns-value]


@lock
def _client(path: Path) -> Any:
    client = LLMClient("gpt-4.1-mini")
    return client._runs._lock, client.report


@lock
def _accounts(_: Path) -> Any:
    client = LLMClient("gpt-4.1-mini")
    return client._state.accounts._lock, lambda: len(client._state.accounts)


@lock
def _account(_: Path) -> Any:
    account = LLMClient("gpt-4.1-mini")._state.account(None, ())
    return account._lock, lambda: account.begin(lambda run: None)


@lock
def _engines(_: Path) -> Any:
    client = LLMClient("gpt-4.1-mini")
    return client._state._lock, client._state.engines


@lock
def _mapping(_: Path) -> Any:
    store = MappingStore({}, "key")
    return store._turn, lambda: store.get_many([b"k" * 32])


@lock
def _memory(_: Path) -> Any:
    store = MemoryStore()
    return store._turn.get(), lambda: store.get_many([b"k" * 32])


@lock
def _making_a_file(path: Path) -> Any:
    return _sqlite_file._creating, lambda: SqliteCache(path / "new.db").close()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_that_another_thread_held_is_free_in_a_child(tmp_path: Path, name: str) -> None:
    lock, use = LOCKS[name](tmp_path)
    with held(lock):
        said = forked(use)
    assert said == repr(use())


def test_each_lock_is_renewed_or_made_for_each_process() -> None:
    """So that no new one is forgotten."""
    made_by_process = {"_Pool", "_Queue", "_State", "_Announced", "Spill"}  # classes that PerProcess makes
    own_way = {
        "cache/_forks.py",  # the thread that forks has it
        "_loops.py",  # an event of one call, whose caller a child does not have
        "cache/core.py",  # an event of one call, set by an event loop that a child does not have
        "cache/stores/sqlite/database.py",  # taken before each fork, or given up in the child
        "cache/stores/leveldb/store.py",  # a child cannot use LevelDB at all
        "testing/_transport_lives.py",  # events of one test, whose caller a child does not have
        "testing/_transport_loops.py",  # the same
        "engine/settle.py",  # an answer is settled by the process that it came to
    }
    found, forgotten = 0, set()
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        text = path.read_text()
        if "threading." not in text:
            continue
        tree = ast.parse(text)
        safe: set[ast.AST] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name in made_by_process:
                safe.update(ast.walk(node))
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("renewed", "PerProcess"):
                safe.update(ast.walk(node))
            if isinstance(node, ast.FunctionDef) and node.name == "_at_fork_reinit":
                safe.update(ast.walk(node))
        for node in ast.walk(tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called.startswith("threading.") and called.endswith(("Lock", "Condition", "Event", "Semaphore")):
                found += 1
                if node not in safe and name not in own_way:
                    forgotten.add(f"{name}:{node.lineno}")
    assert found > 15
    # Its object renews it, with all that it guards.
    assert {place.partition(":")[0] for place in forgotten} == {"schedule/prefixes.py"}


def test_a_child_waits_for_no_leader_of_its_parent() -> None:
    scheduler: PrefixScheduler[str] = PrefixScheduler()
    prefix = Prefix(id=b"prefix", tokens=5_000, seconds=300.0)
    assert scheduler.enter([prefix], 0.0, "a").role == "lead"
    assert scheduler.enter([prefix], 0.0, "b").role == "wait"
    assert forked(lambda: scheduler.enter([prefix], 0.0, "c").role) == "'lead'"
    assert scheduler.enter([prefix], 0.0, "d").role == "wait"


CACHES: dict[str, Callable[[Path], Any]] = {
    "SqliteCache": lambda path: SqliteCache(path / "cache.db"),
    "SqliteCache over a base": lambda path: SqliteCache(path / "own.db", base=_filled(path / "base.db")),
    "MemoryCache": lambda path: MemoryCache(),
    "DistributedDictCache": lambda path: DistributedDictCache({}),
}


def _filled(path: Path) -> Path:
    SqliteCache(path).close()
    return path


@pytest.mark.parametrize("kind", CACHES)
def test_children_that_are_forked_while_threads_use_the_client_have_their_answers(
    make_client: Any, tmp_path: Path, kind: str
) -> None:
    with CACHES[kind](tmp_path) as cache:
        client = make_client(cache=cache)
        known = [f"known {number}" for number in range(5)]
        wanted = client.process_prompts_sync(known, return_completions_only=True, show_progress=False)
        over = threading.Event()

        def use(name: str) -> None:
            number = 0
            while not over.is_set():
                number += 1
                system = Conversation.system("long " * 500)
                asked = [system.user(f"{name} {number} {part}") for part in range(3)]
                client.process_prompts_sync([*known, *asked], show_progress=False, cache="system_and_tools")

        threads = [threading.Thread(target=use, args=(str(number),)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(12):
                said = forked(
                    lambda: client.process_prompts_sync(known, return_completions_only=True, show_progress=False)
                )
                assert said == repr(wanted)
        finally:
            over.set()
            for thread in threads:
                thread.join()


def test_a_child_has_connections_of_its_own_to_a_redis_server() -> None:
    pytest.importorskip("redis")
    with RedisServer() as server, RedisCache(server.url) as cache:
        cache.put(prompt("known"), answer("fine"))
        client: Any = cache.backend._client  # type: ignore[attr-defined]

        def in_child() -> list[object]:
            said = [getattr(cache.get(prompt("known")), "completion", None)]
            cache.put(prompt("more"), answer("of the child"))
            cache.close()
            return said

        with held(client._client.connection_pool._lock):
            assert forked(in_child) == "['fine']"
            assert forked(cache.close) == "None"
        assert [cache.get(prompt(each)) for each in ("known", "more")] == [answer("fine"), answer("of the child")]


def test_a_fork_does_not_wait_for_a_file_that_another_program_has_locked(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with SqliteCache(path) as cache:
        cache.put(prompt("known"), answer("fine"))
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        writer = threading.Thread(target=cache.put, args=(prompt("late"), answer("fine")))
        writer.start()
        while not _waits(cache):
            time.sleep(0.001)
        began = time.monotonic()
        said = forked(lambda: getattr(cache.get(prompt("known")), "completion", None))
        took = time.monotonic() - began
        assert said == "'fine'"
        assert took < 10  # and not the 60 s for which others are waited for
        assert writer.is_alive()
        other.execute("ROLLBACK")
        other.close()
        writer.join()
        assert cache.get(prompt("late")) is not None


def _waits(cache: Any) -> bool:
    return bool(cache.backend._database._writing.locked())


def test_a_child_leaves_a_file_alone_that_a_thread_used_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm_deluge.cache._forks._SECONDS", 0.05)
    path = tmp_path / "cache.db"
    with SqliteCache(path) as cache:
        cache.put(prompt("known"), answer("fine"))
        database = cache.backend._database  # type: ignore[attr-defined]

        def in_child() -> list[str]:
            said = []
            for use in (
                lambda: cache.get(prompt("known")),
                lambda: cache.put(prompt("more"), answer("fine")),
                lambda: SqliteCache(path),
                lambda: SqliteCache(tmp_path / "over.db", base=path).get(prompt("known")),
            ):
                try:
                    use()
                    said.append("done")
                except Exception as error:
                    said.append(type(error).__name__ if "while this process was forked" in str(error) else str(error))
            cache.close()
            SqliteCache(tmp_path / "another.db").put(prompt("x"), answer("fine"))
            return said

        with held(database._reading):
            assert forked(in_child) == repr(["CacheFileError"] * 4)
            assert path.with_name("cache.db-wal").exists()  # the child took nothing away
        cache.put(prompt("later"), answer("fine"))
    with SqliteCache(path) as cache:
        assert [cache.get(prompt(name)) is not None for name in ("known", "later", "more")] == [True, True, False]
