"""Imports, forked processes and the end of the interpreter: each test runs programs of its own."""

import signal
import subprocess
import sys
import textwrap

import pytest

SERVER = """
import asyncio, os, sys, threading, time
from lm_deluge.transport import AsyncioTransport
from lm_deluge.wire import HttpRequest

async def handler(reader, writer):
    try:
        while True:
            await reader.readuntil(b"\\r\\n\\r\\n")
            writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok")
    except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        pass
    finally:
        writer.close()

async def listen():
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return HttpRequest(method="GET", url="http://127.0.0.1:%d" % server.sockets[0].getsockname()[1], headers={})

def serve_in_thread():
    ready, box = threading.Event(), []
    async def main():
        box.append(await listen())
        ready.set()
        await asyncio.Event().wait()
    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    ready.wait()
    return box[0]

async def fetch(transport, request):
    return (await transport.send(request, timeout=60)).body

transport = AsyncioTransport()
"""


def run(program: str) -> str:
    """The output of a program in a fresh interpreter, which must end well by itself and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SERVER + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_importing_brings_no_http_client():
    assert run("print([name for name in sys.modules if name in ('httptools', 'aiohttp')])") == "[]\n"


def test_a_process_forked_after_a_request_has_connections_of_its_own():
    output = run(
        """
        request = serve_in_thread()
        print(asyncio.run(fetch(transport, request)), flush=True)
        for given in (transport, AsyncioTransport()):
            child = os.fork()
            if not child:
                print(asyncio.run(fetch(given, request)), flush=True)
                sys.exit(0)
            print(os.waitpid(child, 0)[1], asyncio.run(fetch(transport, request)), flush=True)
        """
    )
    assert output == "b'ok'\n" + 2 * "b'ok'\n0 b'ok'\n"


def test_processes_forked_before_the_first_request_work():
    output = run(
        """
        request = serve_in_thread()
        for _ in range(2):
            child = os.fork()
            if not child:
                print(asyncio.run(fetch(transport, request)), flush=True)
                sys.exit(0)
            print(os.waitpid(child, 0)[1], flush=True)
        print(asyncio.run(fetch(transport, request)))
        """
    )
    assert output == "b'ok'\n0\n" * 2 + "b'ok'\n"


def test_the_interpreter_ends_well_right_after_an_answer():
    for _ in range(3):
        run(
            """
            request = serve_in_thread()
            async def main():
                await asyncio.gather(*(fetch(transport, request) for _ in range(50)))
            asyncio.run(main())
            """
        )


SENDING = """
request = serve_in_thread()
started = threading.Event()
async def forever():
    while True:
        try:
            await fetch(transport, request)
        except Exception:
            await asyncio.Event().wait()
        started.set()
async def main():
    await asyncio.gather(*(forever() for _ in range(20)))
threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
started.wait()
"""

ENDINGS = [
    pytest.param("", 0, id="falls off the end"),
    pytest.param("sys.exit(3)", 3, id="sys.exit"),
    pytest.param("raise ValueError", 1, id="exception"),
    pytest.param("import signal; signal.raise_signal(signal.SIGINT)", -signal.SIGINT, id="Ctrl-C"),
]


def ends_while_sending(ending: str, code: int) -> None:
    """A process that ends while a thread is still sending, with the code that its ending means."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-c", SERVER + SENDING + ending],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, f"ended with {done.returncode}\n{done.stderr[-8000:]}"
    assert "Fatal Python error" not in done.stderr


@pytest.mark.parametrize(("ending", "code"), ENDINGS)
def test_the_interpreter_ends_well_while_a_thread_is_still_sending(ending, code):
    for _ in range(2):
        ends_while_sending(ending, code)


@pytest.mark.long
@pytest.mark.parametrize(("ending", "code"), ENDINGS)
def test_many_interpreters_end_well_while_a_thread_is_still_sending(ending, code):
    for _ in range(40):
        ends_while_sending(ending, code)


FORKS = """
import json, os, sys, threading, time
from lm_deluge import LLMClient
from lm_deluge.testing import Emulator

with Emulator(latency=0.002) as emulator:
    os.environ.update(OPENAI_API_KEY="any", OPENAI_BASE_URL=emulator.openai_base_url)
    client = LLMClient(
        "gpt-4.1-mini", transport=TRANSPORT, max_requests_per_minute=1e9, max_tokens_per_minute=1e9,
        max_concurrent_requests=8,
    )

    def ask(count):
        responses = client.process_prompts_sync([f"question {n}" for n in range(count)], show_progress=False)
        return sum(not response.is_error for response in responses)

    going, answered, over = threading.Event(), [], threading.Event()

    def go_on():
        while not over.is_set():
            answered.append(ask(20))
            going.set()

    thread = threading.Thread(target=go_on)
    thread.start()
    going.wait()
    ended = []
    for _ in range(3):
        child = os.fork()
        if not child:
            if ask(20) != 20:
                os._exit(1)
            if LEAVE:
                sys.exit(0)  # all of the interpreter's end: nothing there may touch what is the parent's
            os._exit(0)
        before = len(answered)
        ended.append(os.waitpid(child, 0)[1])
        while len(answered) < before + 2:
            time.sleep(0.01)
    over.set()
    thread.join()
    client.close()
    print(ended, set(answered))
"""


@pytest.mark.parametrize("leave", [True, False], ids=["ends", "is gone"])
# aiohttp connects by the loop's ``sock_connect``, for which uvloop uses threads of libuv: see ``transport/_dial.py``.
# So the child hangs now and then, once in some tens of programs.
@pytest.mark.parametrize("transport", ["asyncio", pytest.param("aiohttp", marks=pytest.mark.long)])
def test_a_forked_worker_uses_its_parents_client_while_the_parent_goes_on(transport, leave):
    program = FORKS.replace("TRANSPORT", repr(transport)).replace("LEAVE", repr(leave))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[0, 0, 0] {20}\n", "")
