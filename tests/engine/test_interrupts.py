"""Ctrl-C in the middle of what the event loop does between two steps of tasks: nothing is lost that others wait for."""

import os
import subprocess
import sys

import pytest

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
