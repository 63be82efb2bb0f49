"""Connections, requests that are given up, event loops and threads."""

import asyncio
import gc
import ssl
import threading

import pytest

from lm_deluge.errors import ConnectionDropped, RequestTimeout, TransportError
from lm_deluge.transport import AsyncioTransport as Transport

pytestmark = pytest.mark.usefixtures("each_transport")


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

        transport = Transport()
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

        transport = Transport()
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

        transport = Transport()
        async with serve(handler) as peer:
            await transport.send(post(peer.url, body=b"first"), timeout=60)
            with pytest.raises(TransportError):
                await transport.send(post(peer.url, body=b"second"), timeout=60)
        return [request.body for request in received]

    assert asyncio.run(main()) == [b"first", b"second"]


@pytest.mark.parametrize("how", ["whole", "streamed"])
@pytest.mark.parametrize("end", ["cancelled", "timed out"])
def test_a_request_that_is_given_up_closes_its_connection_and_no_other(serve, post, how, end):
    """The server has not begun to answer, so nothing but the close tells it that nobody waits."""

    async def main():
        arrived, gone, answer = asyncio.Queue(), asyncio.Queue(), asyncio.Event()

        async def handler(connection):
            body = (await connection.request()).body
            arrived.put_nowait(body)
            if body == b"kept":
                await answer.wait()
                return await connection.reply(b"ok")
            await connection.closed()
            gone.put_nowait(body)

        async def ask(body, limit):
            if how == "whole":
                return (await transport.send(post(peer.url, body=body), timeout=limit)).body
            async with transport.stream(post(peer.url, body=body), timeout=limit) as response:
                return await response.read()

        transport = Transport()
        async with serve(handler) as peer:
            kept = asyncio.ensure_future(ask(b"kept", 30))
            given_up = asyncio.ensure_future(ask(b"given up", 30 if end == "cancelled" else 0.1))
            assert {await arrived.get(), await arrived.get()} == {b"kept", b"given up"}
            if end == "cancelled":
                given_up.cancel()
            with pytest.raises(asyncio.CancelledError if end == "cancelled" else RequestTimeout):
                await given_up
            assert await asyncio.wait_for(gone.get(), 5) == b"given up"
            answer.set()
            assert await kept == b"ok"
            await transport.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_that_is_cancelled_while_it_connects_leaves_no_connection(serve, post, scheme):
    async def main():
        arrived, gone = asyncio.Event(), asyncio.Event()

        async def deaf(connection):
            arrived.set()
            await connection.closed()
            gone.set()

        async with serve(deaf) as peer:
            url = peer.url.replace("http", scheme)
            task = asyncio.ensure_future(Transport().send(post(url, body=b""), timeout=60))
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(gone.wait(), 60)

    asyncio.run(main())


def test_connections_end_with_their_event_loop_and_with_their_transport(serve, post):
    """Nobody has to call aclose(): neither the end of a loop nor a transport that is dropped leaves a connection."""
    closed = []

    async def handler(connection):
        try:
            await patient(connection)
        finally:
            closed.append(connection)

    async def dropped():
        async with serve(handler) as peer:
            await Transport().send(post(peer.url), timeout=60)
            gc.collect()
            while not closed:
                await asyncio.sleep(0)

    asyncio.run(dropped())
    transport, ready, end = Transport(), threading.Event(), []

    async def server():
        done = asyncio.Event()
        async with serve(handler) as peer:
            end.extend([peer.url, asyncio.get_running_loop(), done])
            ready.set()
            await done.wait()
            while len(closed) < 2:
                await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: asyncio.run(server()))
    thread.start()
    ready.wait()
    url, loop, done = end
    asyncio.run(transport.send(post(url), timeout=60))
    loop.call_soon_threadsafe(done.set)
    thread.join(10)
    assert len(closed) == 2


def test_aclose_fails_the_requests_under_way(serve, post):
    async def main():
        arrived = asyncio.Event()

        async def handler(connection):
            await connection.request()
            arrived.set()
            await connection.closed()

        transport = Transport()
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
        transport = Transport()
        async with serve(echo) as peer:
            bodies = [b"%d" % number for number in range(300)]
            answers = await asyncio.gather(*(transport.send(post(peer.url, body=b), timeout=60) for b in bodies))
        assert [answer.body for answer in answers] == bodies

    asyncio.run(main())


def test_one_transport_serves_event_loops_one_after_the_other(serve, post):
    transport = Transport()

    async def main():
        async with serve(patient) as peer:
            return (await transport.send(post(peer.url), timeout=60)).body

    assert [asyncio.run(main()) for _ in range(3)] == [b"ok"] * 3


def test_one_transport_serves_event_loops_in_several_threads(serve, post):
    transport, bodies = Transport(), []

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


def test_certificates_are_read_once_and_off_the_event_loop(serve, post, tls, certs, monkeypatch):
    readers = []

    def create(*arguments, **settings):
        readers.append(threading.current_thread())
        return real(*arguments, **settings)

    real = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", create)

    async def main():
        transport = Transport(ca_file=certs / "ca.pem")
        async with serve(patient, tls=tls) as peer:
            await asyncio.gather(*(transport.send(post(peer.url), timeout=60) for _ in range(20)))
            await transport.aclose()

    asyncio.run(main())
    assert len(readers) == 1
    assert readers[0] is not threading.main_thread()
