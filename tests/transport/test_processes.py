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
