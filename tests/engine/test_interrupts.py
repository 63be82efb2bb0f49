"""Ctrl-C in the middle of what the event loop does between two steps of tasks: nothing is lost that others wait for."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
import uvloop

from lm_deluge import LLMClient
from lm_deluge.events import Event, RunFinished
from lm_deluge.testing import Emulator

# The second Ctrl-C comes while asyncio counts the calls that the first one has cancelled, or while it takes the next
# callback from its queue. Raised there, KeyboardInterrupt would lose that step, and who waits for it would never wake.
PROGRAM = """
import asyncio, signal, sys
from lm_deluge import LLMClient, _loops

where, loop = sys.argv[1:]
if loop == "asyncio":
    _loops._loop_factory = lambda: asyncio.SelectorEventLoop
client = LLMClient("gpt-4.1-mini")
interrupted = [0]

def interrupt(frame):
    interrupted[0] += 1
    signal.getsignal(signal.SIGINT)(signal.SIGINT, frame)

def trace(frame, event, argument):
    code = frame.f_code
    if code.co_name == "_done_callback" and "gather" in code.co_qualname and where == "counting":
        return on_line
    if code.co_name == "_run" and frame.f_globals["__name__"] == "asyncio.events" and where == "taking":
        return on_line
    return None

def on_line(frame, event, argument):
    if interrupted[0] == 1 and event == "line":
        sys.settrace(None)
        interrupt(frame)
    return on_line

def first():
    if client.last_report is None and not interrupted[0]:
        sys.settrace(trace)
        interrupt(sys._getframe())

async def main():
    asyncio.get_running_loop().call_later(0.3, first)
    return await client.process_prompts_async([f"q{n}" for n in range(60)], show_progress=False)

try:
    _loops.run_here(main)
except KeyboardInterrupt:
    print("interrupted", interrupted[0])
"""


# uvloop takes its callbacks in compiled code, which no signal interrupts.
@pytest.mark.parametrize(("where", "loop"), [("counting", "asyncio"), ("counting", "uvloop"), ("taking", "asyncio")])
def test_a_second_interrupt_between_the_steps_of_tasks_ends_the_run(where: str, loop: str) -> None:
    with Emulator(latency=20.0) as slow:
        environ = {
            **os.environ,
            "OPENAI_BASE_URL": slow.openai_base_url,
            "OPENAI_API_KEY": "any",
            "PYTHONPATH": ":".join(filter(None, sys.path)),
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, where, loop],
            env=environ,
            text=True,
            capture_output=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "interrupted 2\n"), done.stderr


@pytest.mark.parametrize("api", ["sync", "async"])
def test_an_interrupt_that_comes_as_the_run_ends_is_not_lost(make_client: Any, api: str) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, RunFinished):
            signal.raise_signal(signal.SIGINT)

    client = make_client(listeners=[interrupt])

    def run() -> None:
        if api == "sync":
            client.process_prompts_sync(["a"], show_progress=False)
        else:
            asyncio.run(client.process_prompts_async(["a"], show_progress=False))

    with pytest.raises(KeyboardInterrupt):
        run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("strikes", ["idle", "callback"])
def test_an_interrupt_of_a_loop_of_the_programs_own_ends_its_runs(new_loop: Any, strikes: str) -> None:
    """The loop can be used afterwards, as in a notebook."""
    loop = new_loop()

    def interrupt() -> None:
        if strikes == "callback":
            signal.raise_signal(signal.SIGINT)
        else:
            threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()

    with Emulator(latency=20.0) as slow:
        client = LLMClient("gpt-4.1-mini", base_url=slow.openai_base_url, api_key="any")
        task = loop.create_task(client.process_prompts_async([f"q{n}" for n in range(60)], show_progress=False))
        loop.call_later(0.3, interrupt)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(asyncio.wait_for(task, 10))
        # As asyncio.run ends a loop. The transports that this closes have their last callbacks in the next pass.
        loop.run_until_complete(client.aclose())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.mark.parametrize("step", ["_cancel_all_tasks", "shutdown_asyncgens", "close"])
def test_an_interrupt_of_the_end_of_a_loop_comes_after_it(make_client: Any, monkeypatch: Any, step: str) -> None:
    """A loop that is left half closed closes descriptors again when it is collected, which are another's by then."""
    loops: list[Any] = []

    class Loop(asyncio.SelectorEventLoop):
        def __init__(self) -> None:
            super().__init__()
            loops.append(self)

        async def shutdown_asyncgens(self) -> None:
            self.strike("shutdown_asyncgens")
            await super().shutdown_asyncgens()

        def close(self) -> None:
            self.strike("close")
            super().close()

        def strike(self, now: str) -> None:
            if now == step and loops == [self]:  # and not when the client is closed
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    cancel_all = asyncio.runners._cancel_all_tasks

    def cancel_all_tasks(loop: Any) -> None:
        if isinstance(loop, Loop):
            loop.strike("_cancel_all_tasks")
        cancel_all(loop)

    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", cancel_all_tasks)
    monkeypatch.setattr("lm_deluge._loops._loop_factory", lambda: Loop)
    with pytest.raises(KeyboardInterrupt):
        make_client().process_prompts_sync(["a"], show_progress=False)
    assert [loop.is_closed() for loop in loops] == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
