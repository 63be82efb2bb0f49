"""Running a coroutine to its end from code that is not asynchronous, wherever that code runs."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from lm_deluge._interrupts import put_off

__all__ = ["a_loop_runs_here", "run_here"]

T = TypeVar("T")


def run_here(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run ``start()`` in an event loop of its own and return its result.

    Where a loop already runs in this thread (a notebook), a second thread runs it and this one waits, as a synchronous
    call must. Ctrl-C cancels the coroutine and then raises ``KeyboardInterrupt``, in both cases.
    """
    return _run_in_thread(start) if a_loop_runs_here() else _run(start)


def a_loop_runs_here() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    runner = asyncio.Runner(loop_factory=_loop_factory())
    try:
        return runner.run(start())
    finally:
        # A loop of uvloop that is not quite closed closes descriptors a second time when it is collected, and by then
        # they may be another's.
        with put_off(), runner, contextlib.suppress(RuntimeError):
            # After an interrupt in the moment in which the coroutine was over, the loop has still been told to stop,
            # and would do so in the middle of what the runner runs at its end.
            runner.get_loop().run_until_complete(_some_passes())


async def _some_passes() -> None:
    for _ in range(4):  # uvloop needs two to stop; what goes on in the next would leave a stop behind again
        await asyncio.sleep(0)


def _run_in_thread(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    outcome: list[T] = []
    failure: list[BaseException] = []
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def main() -> T:
        task = asyncio.current_task()
        if task is not None:
            running.append((asyncio.get_running_loop(), task))
        return await start()

    # Not Thread.join: in Python 3.11, one that is interrupted takes a running thread for ended, and so does the
    # interpreter at its end.
    over = threading.Event()

    def work() -> None:
        try:
            outcome.append(_run(main))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            failure.append(error)
        finally:
            over.set()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="lm_deluge run")
    thread.start()
    try:
        over.wait()
    except KeyboardInterrupt:
        for loop, task in running:
            with contextlib.suppress(RuntimeError):  # it ends in this moment
                loop.call_soon_threadsafe(task.cancel)
        over.wait()
        raise
    if failure:
        raise failure[0]
    return outcome[0]


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # there is none for this platform; asyncio's own loop is slower and otherwise the same
        return None
    return uvloop.new_event_loop
