"""A cache that is away: nobody waits for it, and what it did not take it gets later."""

import asyncio
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lm_deluge._threads import CallHangs, Threads, made_progress
from lm_deluge.cache import MemoryCache, ResponseCache, SqliteCache
from lm_deluge.cache.admin.archive import load
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.found import Prompt, RunContext
from lm_deluge.cache.guard import Guard
from lm_deluge.cache.guarded import GuardedStore
from lm_deluge.cache.runs import Run
from lm_deluge.cache.spill import Spill, spill_directory
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.errors import CacheError, CacheFileError
from lm_deluge.prompt import Conversation, Message
from lm_deluge.response import APIResponse

SECONDS = 20.0


class Away(MemoryStore):
    """A store on another machine that can be taken away. ``asked`` counts calls that reached it."""

    blocks = True
    patience = 0.2

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.here = threading.Event()
        self.here.set()
        self.asked = 0

    def _reach(self) -> None:
        self.asked += 1
        self.here.wait(SECONDS)
        if self.error is not None:
            raise self.error

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._reach()
        return super().get_many(keys)

    def put_many(self, entries: Sequence[Entry]) -> None:
        self._reach()
        super().put_many(entries)

    def record_run(self, run: Run) -> None:
        self._reach()
        super().record_run(run)


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Iterator[Away]:
    store = Away()
    yield store
    store.here.set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Time between probes, which passes when the test says so."""
    now = Time()
    made = Guard.__init__

    def make(self: Guard, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **{**options, "clock": now})

    monkeypatch.setattr(Guard, "__init__", make)
    return now


def entries(*numbers: int) -> list[Entry]:
    core = MemoryCache().core
    return [core.entry(Conversation.system("long " * 500).user(str(one)), answer(one)) for one in numbers]


def answer(number: int) -> APIResponse:
    return APIResponse(model_internal="m", content=Message.ai(f"answer {number}"), finish_reason="stop", raw_body=b"{}")


def guarded(store: Away, directory: Path | None) -> GuardedStore:
    return GuardedStore(store, lambda: Spill(directory, "test"), patience=store.patience)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.005)


def held(store: MemoryStore, wanted: Sequence[Entry]) -> int:
    return sum(value is not None for value in MemoryStore.get_many(store, [one.key for one in wanted]))


# Leaving it alone


def test_a_store_that_hangs_is_given_up_and_left_alone(store: Away, clock: Time) -> None:
    guard = guarded(store, None)
    store.here.clear()
    with pytest.raises(CacheFileError, match=r"has not answered for 0\.2 s.*Answers are kept in memory"):
        guard.get_many([bytes(32)])
    asked = store.asked
    for call in (
        lambda: guard.get_many([bytes(32)]),
        lambda: guard.put_many(entries(1)),
        lambda: guard.acquire([bytes(32)], b"me", now=0.0, seconds=1.0),
        lambda: guard.renew([bytes(32)], b"me", now=0.0, seconds=1.0),
        lambda: guard.release([bytes(32)], b"me"),
        lambda: guard.touch([bytes(32)], now=0.0),
        lambda: guard.record_run(Run(id=1, name="a", started=0.0)),
    ):
        with pytest.raises(CacheFileError, match="not called until it answers again"):
            call()
    assert store.asked == asked


def test_some_errors_are_enough_too(store: Away, clock: Time) -> None:
    guard = guarded(store, None)
    store.error = ConnectionError("refused")
    for _ in range(3):
        clock.now += 0.2
        with pytest.raises(CacheError, match="ConnectionError: refused"):
            guard.get_many([bytes(32)])
    with pytest.raises(CacheFileError, match="not called until it answers"):
        guard.get_many([bytes(32)])


def test_no_call_waits_for_the_probe(store: Away, clock: Time) -> None:
    guard = guarded(store, None)
    store.here.clear()
    with pytest.raises(CacheFileError):
        guard.get_many([bytes(32)])
    clock.now += 1.5
    asked = store.asked
    for _ in range(3):
        with pytest.raises(CacheFileError, match="not called until it answers"):
            guard.get_many([bytes(32)])
    until(lambda: store.asked == asked + 1)
    store.here.set()
    until(lambda: guard._guard.is_good)
    assert guard.get_many([bytes(32)]) == [None]


def test_threads_that_hang_are_bounded() -> None:
    workers: Threads[None] = Threads("test")
    free = threading.Event()
    for _ in range(8):
        with pytest.raises(CallHangs, match=r"0\.01 s"):
            workers.call(lambda: free.wait(SECONDS) and None, patience=0.01)
    before = threading.active_count()
    with pytest.raises(CallHangs, match="have still not returned"):
        workers.call(lambda: None, patience=1.0)
    assert threading.active_count() == before
    free.set()
    until(lambda: not workers._state.get().lost)
    workers.call(lambda: None, patience=1.0)


def test_a_call_that_goes_on_is_waited_for() -> None:
    workers: Threads[int] = Threads("test")

    def steps() -> int:
        for _ in range(20):
            threading.Event().wait(0.05)
            made_progress()
        return 7

    assert workers.call(steps, patience=0.6) == 7


def test_whatever_ends_a_call_is_an_error_of_the_cache(store: Away) -> None:
    class Panic(BaseException):
        pass

    guard = guarded(store, None)
    for error in (Panic("native"), asyncio.CancelledError(), SystemExit(3), StopIteration(1)):
        store.error = error  # type: ignore[assignment]
        with pytest.raises(CacheError):
            guard.get_many([bytes(32)])


# What it did not take


def test_what_is_kept_is_handed_over_before_it_is_asked_again(store: Away, clock: Time, tmp_path: Path) -> None:
    guard, wanted = guarded(store, tmp_path), entries(*range(20))
    store.error = TimeoutError()
    with pytest.raises(CacheFileError, match=str(tmp_path)):
        guard.put_many(wanted[:10])
    with pytest.raises(CacheFileError, match="not called until it answers"):
        guard.put_many(wanted[10:])
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store.error = None
    clock.now += 1.5
    guard._guard.arrive()
    found = MemoryStore.get_many(store, [one.key for one in wanted])
    assert found == [one.value for one in wanted]
    assert list(tmp_path.iterdir()) == []
    guard.close()


def test_the_next_process_takes_in_what_the_last_one_left(store: Away, tmp_path: Path) -> None:
    kept = entries(*range(5))
    code = """if True:
        import os, sys
        from pathlib import Path
        from tests.cache.test_guard import entries
        from lm_deluge.cache.spill import Spill
        spill = Spill(Path(sys.argv[1]), "test")
        spill.add(entries(*range(5)))
        print("kept", flush=True)
        os.kill(os.getpid(), 9)
    """
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False
    )
    assert len(list(tmp_path.iterdir())) == 1
    guard = guarded(store, tmp_path)
    assert None not in guard.get_many([one.key for one in kept])
    assert list(tmp_path.iterdir()) == []
    guard.close()


def test_a_file_that_is_written_or_belongs_to_another_cache_is_left_alone(store: Away, tmp_path: Path) -> None:
    mine, other = Spill(tmp_path, "test"), Spill(tmp_path, "other")
    mine.add(entries(1))
    other.add(entries(2))
    other.close()
    guard = guarded(store, tmp_path)
    assert guard.get_many([one.key for one in entries(1, 2)]) == [None, None]
    assert len(list(tmp_path.iterdir())) == 2
    mine.close()
    guard.close()


def test_the_file_can_be_imported(tmp_path: Path) -> None:
    spill = Spill(tmp_path / "new" / "spill", "redis://host:1/0 default")
    spill.add(entries(*range(3)))
    spill.close()
    assert stat.S_IMODE((tmp_path / "new" / "spill").stat().st_mode) == 0o700
    (path,) = (tmp_path / "new" / "spill").iterdir()
    with SqliteCache(tmp_path / "c.db") as cache:
        report = load(cache.backend, path)
        assert (report.added, report.is_complete) == (3, True)
        assert cache.get(Conversation.system("long " * 500).user("2")) == answer(2)


def test_a_directory_that_others_can_write_is_not_used(store: Away, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    spill = Spill(tmp_path, "test")
    spill.add(entries(1, 2))
    assert (list(tmp_path.iterdir()), spill.kept) == ([], 2)
    guard = guarded(store, tmp_path)
    (tmp_path / f"{spill._name}-0.jsonl").symlink_to(tmp_path / "elsewhere")
    assert guard.get_many([bytes(32)]) == [None]
    guard.close()


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, store: Away, clock: Time) -> None:
    monkeypatch.setattr("lm_deluge.cache.spill._MOST_BYTES", 3_000)
    guard, wanted = guarded(store, None), entries(*range(5))
    store.error = TimeoutError()
    with pytest.raises(CacheFileError, match="4 answers could not be kept either"):
        guard.put_many(wanted)
    store.error = None
    clock.now += 1.5
    guard._guard.arrive()
    assert held(store, wanted) == 1
    guard.close()


def test_an_entry_that_is_refused_for_itself_holds_up_no_other(store: Away, clock: Time, tmp_path: Path) -> None:
    guard, wanted = guarded(store, tmp_path), entries(*range(5))
    store.error = TimeoutError()
    with pytest.raises(CacheFileError):
        guard.put_many(wanted)
    put = Away.put_many

    def picky(self: Away, some: Sequence[Entry]) -> None:
        if any(one.key == wanted[2].key for one in some):
            raise ValueError("too large")
        put(self, some)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Away, "put_many", picky)
        store.error = None
        clock.now += 1.5
        guard._guard.arrive()
    assert held(store, wanted) == 4
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".refused"
    guard.close()


def test_a_damaged_entry_in_its_place_holds_up_no_other(store: Away, clock: Time, tmp_path: Path) -> None:
    guard, wanted = guarded(store, tmp_path), entries(*range(5))
    MemoryStore.put_many(store, [Entry(key=wanted[2].key, value=b"damaged")])
    store.error = TimeoutError()
    with pytest.raises(CacheFileError):
        guard.put_many(wanted)
    store.error = None
    clock.now += 1.5
    guard._guard.arrive()
    assert MemoryStore.get_many(store, [one.key for one in wanted]) == [one.value for one in wanted]
    assert [one.value for one in store.quarantined()] == [b"damaged"]
    assert list(tmp_path.iterdir()) == []
    guard.close()


def test_accounts_are_kept_too(store: Away, clock: Time) -> None:
    guard = guarded(store, None)
    store.error = TimeoutError()
    with pytest.raises(CacheError):
        guard.record_run(Run(id=1, name="a", started=0.0))
    store.error = None
    clock.now += 1.5
    guard._guard.arrive()
    assert [run.id for run in store.runs()] == [1]
    guard.close()


def test_closing_hands_over_what_is_left(store: Away, clock: Time, tmp_path: Path) -> None:
    guard, wanted = guarded(store, tmp_path), entries(1, 2)
    store.error = TimeoutError()
    with pytest.raises(CacheError):
        guard.put_many(wanted)
    store.error = None
    clock.now += 1.5
    guard._guard.close()
    assert held(store, wanted) == 2


def test_where_files_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("LM_DELUGE_SPILL")
    assert spill_directory(None) == tmp_path / ".local/state/lm_deluge/spill"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert spill_directory(True) == tmp_path / "state/lm_deluge/spill"
    monkeypatch.setenv("LM_DELUGE_SPILL", "~/here")
    assert spill_directory(None) == tmp_path / "here"
    assert spill_directory("~/there") == tmp_path / "there"
    assert spill_directory(False) is None
    monkeypatch.setenv("LM_DELUGE_SPILL", "off")
    assert spill_directory(None) is None


# In runs


def test_an_object_of_the_users_is_left_alone_and_given_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_deluge.cache.user import UserCache

    monkeypatch.setattr("lm_deluge.cache.user._PATIENCE", 0.2)
    here = threading.Event()

    class Hangs:
        def __init__(self) -> None:
            self.data: dict[Conversation, APIResponse] = {}

        def get(self, prompt: Conversation) -> APIResponse | None:
            here.wait(SECONDS)
            return self.data.get(prompt)

        def put(self, prompt: Conversation, response: APIResponse) -> None:
            here.wait(SECONDS)
            self.data[prompt] = response

    mine = Hangs()
    cache = UserCache(mine).for_run(RunContext())
    asked = [Prompt(Conversation.user(str(number))) for number in range(50)]

    async def away() -> None:
        for one in asked:
            with pytest.raises(CacheError):
                await cache.get_many([one])
            with pytest.raises(CacheError):
                await cache.submit(one, answer(1), None)

    began = time.monotonic()
    asyncio.run(away())
    assert time.monotonic() - began < SECONDS / 2
    here.set()
    until(lambda: not cache._guard.workers._state.get().lost)

    async def back() -> list[bool]:
        threading.Event().wait(1.0)
        cache.for_run(RunContext())
        return [one.response is not None for one in await cache.get_many(asked)]

    assert all(asyncio.run(back()))


def test_an_object_with_a_coroutine_for_put_alone_is_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_deluge.cache import breaker
    from lm_deluge.cache.user import UserCache

    monkeypatch.setattr(breaker, "_PAUSE", 0.05)
    monkeypatch.setattr(breaker, "_APART", 0.0)

    class Mixed:
        away = True

        def get(self, prompt: Conversation) -> APIResponse | None:
            if self.away:
                raise OSError("away")
            return answer(1)

        async def put(self, prompt: Conversation, response: APIResponse) -> None:
            """It keeps nothing."""

    mine = Mixed()
    cache = UserCache(mine).for_run(RunContext())

    def is_hit() -> bool:
        try:
            return asyncio.run(cache.get_many([Prompt(Conversation.user("a"))]))[0].response is not None
        except CacheError:
            return False

    for _ in range(5):
        assert not is_hit()
    mine.away = False
    until(is_hit)


@pytest.mark.parametrize("single_flight", [False, True])
def test_a_run_beside_a_store_that_hangs(make_client: Any, emulator: Any, single_flight: bool) -> None:
    store = Away()
    store.here.clear()
    client = make_client(cache=ResponseCache(store), single_flight=single_flight)
    prompts = [str(number) for number in range(60)]
    with pytest.warns(UserWarning, match="Answers are kept in") as warned:
        answers = client.process_prompts_sync(prompts, show_progress=False)
    assert (len(warned), [one.is_error for one in answers]) == (1, [False] * 60)
    assert client.report().cache_failures >= 60
    store.here.set()
    threading.Event().wait(1.0)  # as long as an early probe is refused
    calls = emulator.calls
    client.process_prompts_sync(prompts, show_progress=False)
    assert emulator.calls == calls
