"""Connections, event loops, threads, processes and the end of the interpreter."""

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from lm_deluge.errors import ConnectionDropped, TransportError
from lm_deluge.transport import PyreqwestTransport


async def patient(connection):
    """Answer any number of requests on one connection."""
    while True:
        await connection.request()
        await connection.reply(b"ok")


def test_connections_are_reused_and_aclose_closes_them(serve, post):
    async def main():
        opened, closed = [], asyncio.Event()

        async def handler(connection):
            opened.append(connection)
            try:
                await patient(connection)
            finally:
                closed.set()

        transport = PyreqwestTransport()
        async with serve(handler) as peer:
            for _ in range(5):
                await transport.send(post(peer.url), timeout=60)
            assert len(opened) == 1
            await transport.aclose()
            await transport.aclose()
            await asyncio.wait_for(closed.wait(), 60)
            assert (await transport.send(post(peer.url), timeout=60)).body == b"ok"  # it opens again
            assert len(opened) == 2

    asyncio.run(main())


def test_a_connection_the_server_closed_while_idle_is_replaced(serve, post):
    """The close can meet the next request on its way, which is then reported; sent again, it always succeeds."""

    async def main():
        connections = 0

        async def handler(connection):
            nonlocal connections
            connections += 1
            await connection.request()
            await connection.reply(b"ok")  # and closes without a word

        async def send_again_if_dropped():
            try:
                return await transport.send(post(peer.url), timeout=60)
            except ConnectionDropped:
                return await transport.send(post(peer.url), timeout=60)

        transport = PyreqwestTransport()
        async with serve(handler) as peer:
            for _ in range(20):
                assert (await send_again_if_dropped()).body == b"ok"
        assert connections == 20

    asyncio.run(main())


def test_a_request_the_server_read_is_never_sent_twice(serve, post):
    """A POST that costs money: once its bytes were read, a dropped connection is reported and not repeated."""

    async def main():
        received = []

        async def handler(connection):
            received.append(await connection.request())
            await connection.reply(b"ok")
            received.append(await connection.request())  # the second one is read and the connection closed

        transport = PyreqwestTransport()
        async with serve(handler) as peer:
            await transport.send(post(peer.url, body=b"first"), timeout=60)
            with pytest.raises(TransportError):
                await transport.send(post(peer.url, body=b"second"), timeout=60)
        return [request.body for request in received]

    assert asyncio.run(main()) == [b"first", b"second"]


def test_a_cancelled_request_returns_at_once_and_its_connection_goes_with_the_time_limit(serve, post):

    async def main():
        arrived, gone = asyncio.Event(), asyncio.Event()
        silent = True

        async def handler(connection):
            await connection.request()
            if not silent:
                return await connection.reply(b"ok")
            arrived.set()
            await connection.closed()
            gone.set()

        transport = PyreqwestTransport()
        async with serve(handler) as peer:
            task = asyncio.ensure_future(transport.send(post(peer.url), timeout=0.3))
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not gone.is_set()
            silent = False
            assert (await transport.send(post(peer.url), timeout=60)).body == b"ok"
            await asyncio.wait_for(gone.wait(), 60)

    asyncio.run(main())


def test_aclose_fails_the_requests_under_way(serve, post):
    async def main():
        arrived = asyncio.Event()

        async def handler(connection):
            await connection.request()
            arrived.set()
            await connection.closed()

        transport = PyreqwestTransport()
        async with serve(handler) as peer:
            task = asyncio.ensure_future(transport.send(post(peer.url), timeout=60))
            await arrived.wait()
            await transport.aclose()
            with pytest.raises(TransportError, match="closed"):
                await asyncio.wait_for(task, 60)

    asyncio.run(main())


def test_many_requests_at_once_each_get_their_own_answer(serve, post):
    async def echo(connection):
        while True:
            await connection.reply((await connection.request()).body)

    async def main():
        transport = PyreqwestTransport()
        async with serve(echo) as peer:
            bodies = [b"%d" % number for number in range(300)]
            answers = await asyncio.gather(*(transport.send(post(peer.url, body=b), timeout=60) for b in bodies))
        assert [answer.body for answer in answers] == bodies

    asyncio.run(main())


def test_one_transport_serves_event_loops_one_after_the_other(serve, post):
    transport = PyreqwestTransport()

    async def main():
        async with serve(patient) as peer:
            return (await transport.send(post(peer.url), timeout=60)).body

    assert [asyncio.run(main()) for _ in range(3)] == [b"ok"] * 3


def test_one_transport_serves_event_loops_in_several_threads(serve, post):
    transport, bodies = PyreqwestTransport(), []

    async def main():
        async with serve(patient) as peer:
            for _ in range(20):
                bodies.append((await transport.send(post(peer.url), timeout=60)).body)

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies == [b"ok"] * 80


def test_the_client_is_built_once_and_off_the_event_loop(serve, post, monkeypatch):
    from pyreqwest.client import ClientBuilder

    from lm_deluge.transport import _pyreqwest

    builders = []

    def configure(builder: ClientBuilder, **settings):
        builders.append(threading.current_thread())
        return real(builder, **settings)

    real = _pyreqwest._configure
    monkeypatch.setattr(_pyreqwest, "_configure", configure)

    async def main():
        transport = PyreqwestTransport()
        async with serve(patient) as peer:
            await asyncio.gather(*(transport.send(post(peer.url), timeout=60) for _ in range(20)))

    asyncio.run(main())
    assert len(builders) == 1
    assert builders[0] is not threading.main_thread()


# What follows needs an interpreter of its own.

SERVER = """
import asyncio, os, sys, threading, time
from lm_deluge.transport import PyreqwestTransport
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

transport = PyreqwestTransport()
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
    assert run("print([name for name in sys.modules if 'pyreqwest' in name and 'lm_deluge' not in name])") == "[]\n"


def test_a_process_forked_after_a_request_is_told_what_to_do_and_the_parent_goes_on():
    output = run(
        """
        request = serve_in_thread()
        print(asyncio.run(fetch(transport, request)), flush=True)
        for given in (transport, PyreqwestTransport()):
            child = os.fork()
            if not child:
                try:
                    asyncio.run(fetch(given, request))
                except ValueError as error:
                    print(type(error).__name__, "spawn" in str(error), flush=True)
                sys.exit(0)
            print(os.waitpid(child, 0)[1], asyncio.run(fetch(transport, request)), flush=True)
        """
    )
    assert output == "b'ok'\n" + 2 * "ConfigError True\n0 b'ok'\n"


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
    """Without care the I/O thread hands something over while the interpreter is torn down, and the process aborts."""
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
    """Without the care taken at the end, about one in seven of those that fall off the end aborts."""
    for _ in range(40):
        ends_while_sending(ending, code)
