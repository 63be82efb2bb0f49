"""Writing in the background: driven by events, never by waiting."""

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from lm_deluge.cache.writer import Writer
from lm_deluge.errors import CacheFileError

T = TypeVar("T")


class Recorder:
    """Takes batches one at a time, each when the test lets it."""

    def __init__(self, *, bad: Callable[[str], Exception | None] = lambda _: None) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[str] = set()
        self.entered = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)
        self._bad = bad

    def write(self, items: Sequence[str]) -> None:
        self.entered.release()
        assert self.allowed.acquire(timeout=60)
        self.threads.add(threading.current_thread().name)
        self.batches.append(list(items))
        for item in items:
            failure = self._bad(item)
            if failure is not None:
                raise failure

    def let(self, batches: int) -> None:
        self.allowed.release(batches)

    async def busy(self) -> None:
        """Return once the thread is inside ``write``."""
        await asyncio.to_thread(self.entered.acquire, timeout=60)


def start(writer: Writer[str], *items: str) -> list["asyncio.Task[None]"]:
    return [asyncio.ensure_future(put(writer, item)) for item in items]


async def put(writer: Writer[T], item: T) -> None:
    await writer.submit(item)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_arrives_during_a_write_is_written_together_in_order() -> None:
    recorder = Recorder()
    writer = Writer(recorder.write)

    async def main() -> None:
        first = start(writer, "a")
        await recorder.busy()
        rest = start(writer, *"bcdefg")
        await settle()
        assert not any(task.done() for task in first + rest)
        recorder.let(1)
        await asyncio.gather(*first)
        assert not any(task.done() for task in rest)
        recorder.let(1)
        await asyncio.gather(*rest)

    asyncio.run(main())
    assert recorder.batches == [["a"], list("bcdefg")]
    assert recorder.threads == {"lm_deluge cache writer"}


def test_a_bad_item_fails_alone() -> None:
    recorder = Recorder(bad=lambda item: ValueError(f"cannot write {item}") if item == "c" else None)
    writer = Writer(recorder.write)
    recorder.let(100)

    async def main() -> list[BaseException | None]:
        return await asyncio.gather(*start(writer, *"abcde"), return_exceptions=True)

    outcomes = asyncio.run(main())
    assert [str(outcome) if outcome else None for outcome in outcomes] == [None, None, "cannot write c", None, None]


def test_when_the_store_itself_fails_each_item_is_not_tried_again() -> None:
    """Trying a thousand items one by one against a locked file would take a minute for each."""
    recorder = Recorder(bad=lambda _: CacheFileError("locked"))
    writer = Writer(recorder.write)

    async def main() -> None:
        first = start(writer, "a")
        await recorder.busy()
        rest = start(writer, *"bcdef")
        await settle()
        recorder.let(2)
        outcomes = await asyncio.gather(*first, *rest, return_exceptions=True)
        assert all(isinstance(outcome, CacheFileError) for outcome in outcomes)

    asyncio.run(main())
    assert recorder.batches == [["a"], list("bcdef")]


def test_every_exception_reaches_its_waiter() -> None:
    """A future refuses StopIteration, and would leave whoever waits waiting."""
    recorder = Recorder(bad=lambda item: StopIteration() if item == "b" else None)
    writer = Writer(recorder.write)
    recorder.let(100)

    async def main() -> list[BaseException | None]:
        async with asyncio.timeout(60):
            return await asyncio.gather(*start(writer, *"abc"), return_exceptions=True)

    first, second, third = asyncio.run(main())
    assert first is third is None
    assert isinstance(second, RuntimeError)
    assert isinstance(second.__cause__, StopIteration)


def test_the_item_of_a_cancelled_waiter_is_written() -> None:
    recorder = Recorder()
    writer = Writer(recorder.write)

    async def main() -> None:
        first = start(writer, "a")
        await recorder.busy()
        (second, third) = start(writer, "b", "c")
        await settle()
        second.cancel()
        recorder.let(2)
        await asyncio.gather(*first, third)
        assert second.cancelled()

    asyncio.run(main())
    assert recorder.batches == [["a"], ["b", "c"]]


def test_a_loop_that_is_closed_before_the_commit() -> None:
    recorder = Recorder()
    writer = Writer(recorder.write)

    async def leave() -> None:
        task = start(writer, "a")[0]
        await recorder.busy()
        task.cancel()

    asyncio.run(leave())
    recorder.let(1)
    writer.flush()
    assert recorder.batches == [["a"]]
    recorder.let(1)
    asyncio.run(put(writer, "b"))
    assert recorder.batches == [["a"], ["b"]]


def test_many_loops_in_many_threads() -> None:
    written: list[int] = []
    writer: Writer[int] = Writer(written.extend)
    after_put: list[bool] = []

    async def main(first: int) -> None:
        async def one(item: int) -> None:
            await put(writer, item)
            after_put.append(item in written)

        await asyncio.gather(*(one(first + number) for number in range(50)))

    threads = [threading.Thread(target=lambda first=first: asyncio.run(main(first))) for first in range(0, 400, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == list(range(400))
    assert after_put == [True] * 400


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lm_deluge cache writer"]


def test_the_thread_ends_when_idle_and_starts_again() -> None:
    before = set(writers())
    written: list[str] = []
    writer = Writer(written.extend, idle_seconds=0)
    for item in "abc":
        asyncio.run(put(writer, item))
        for thread in set(writers()) - before:
            thread.join(timeout=60)
        assert set(writers()) <= before
    assert written == ["a", "b", "c"]


def test_an_idle_writer_is_not_kept_alive() -> None:
    before = set(writers())
    writer = Writer(list[str]().extend, idle_seconds=0)
    asyncio.run(put(writer, "a"))
    for thread in set(writers()) - before:
        thread.join(timeout=60)
    gone = weakref.ref(writer)
    del writer
    gc.collect()
    assert gone() is None


def test_a_thread_that_cannot_start_fails_one_item_and_no_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    writer = Writer(written.extend)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            asyncio.run(put(writer, "a"))
    asyncio.run(asyncio.wait_for(put(writer, "b"), 60))
    assert written == ["b"]


def test_flush_waits_for_the_batch_that_is_being_written() -> None:
    recorder = Recorder()
    writer = Writer(recorder.write)
    writer.flush()  # nothing to do
    flushed = threading.Event()

    def flush() -> None:
        writer.flush()
        flushed.set()

    async def main() -> None:
        tasks = start(writer, "a")
        await recorder.busy()
        tasks += start(writer, "b")
        await settle()
        thread = threading.Thread(target=flush)
        thread.start()
        assert not flushed.is_set()
        recorder.let(1)
        await asyncio.gather(tasks[0])
        assert not flushed.is_set()
        recorder.let(1)
        await asyncio.gather(*tasks)
        await asyncio.to_thread(thread.join)

    asyncio.run(main())
    assert flushed.is_set()
    assert recorder.batches == [["a"], ["b"]]


def test_what_was_accepted_is_written_before_the_interpreter_ends() -> None:
    program = """
import asyncio, time
from lm_deluge.cache.writer import Writer

def write(items):
    time.sleep(0.05)
    print(*items, flush=True)

writer = Writer(write)

async def main():
    for item in "abc":
        writer.submit(item)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.returncode == 0, done.stderr
    assert "".join(done.stdout.split()) == "abc"
