"""Checks of connections: which are kept, replaced and given up."""

import asyncio
import socket
import threading

import pytest

from lm_deluge.errors import ConnectionDropped, RequestTimeout, TransportError
from lm_deluge.testing._expect import expect
from lm_deluge.testing._transport_checks import (
    CHUNKED,
    Checks,
    after_request,
    caught,
    chunk,
    descriptors,
    in_loop,
    post,
    replying,
)
from lm_deluge.testing._transport_peer import Connection
from lm_deluge.transport import Transport
from lm_deluge.wire import HttpRequest

__all__ = ["LifeChecks"]

_SECONDS = 60.0
_patient = replying()


class LifeChecks(Checks):
    """The lives of connections."""

    @in_loop
    async def test_connections_are_reused_and_aclose_closes_them(self) -> None:
        opened: list[Connection] = []
        closed = asyncio.Event()

        async def handler(connection: Connection) -> None:
            opened.append(connection)
            try:
                await _patient(connection)
            finally:
                closed.set()

        async with self.facing(handler) as (transport, url):
            for _ in range(5):
                await transport.send(post(url), timeout=60)
            expect(len(opened), 1, "the number of connections for five requests in a row")
            await transport.aclose()
            await transport.aclose()
            await asyncio.wait_for(closed.wait(), _SECONDS)
            answer = await transport.send(post(url), timeout=60)
            expect(answer.body, b"ok", "an answer after aclose, which opens a new connection")
            expect(len(opened), 2, "the number of connections")

    @in_loop
    async def test_a_connection_the_server_closed_while_idle_is_replaced(self) -> None:
        """The close can meet the next request on its way, which is then reported; sent again, it always succeeds."""

        connections = 0

        async def handler(connection: Connection) -> None:
            nonlocal connections
            connections += 1
            await connection.request()
            await connection.reply(b"ok")  # and closes without a word

        async with self.facing(handler) as (transport, url):
            for _ in range(20):
                try:
                    answer = await transport.send(post(url), timeout=60)
                except ConnectionDropped:
                    answer = await transport.send(post(url), timeout=60)
                expect(answer.body, b"ok", "an answer")
        expect(connections, 20, "the number of connections that the server took")

    @in_loop
    async def test_a_request_the_server_read_is_never_sent_twice(self) -> None:
        """A POST that costs money: once its bytes were read, a dropped connection is reported and not repeated."""

        received: list[bytes] = []

        async def handler(connection: Connection) -> None:
            received.append((await connection.request()).body)
            await connection.reply(b"ok")
            received.append((await connection.request()).body)  # it is read, and the connection closed

        async with self.facing(handler) as (transport, url):
            await transport.send(post(url, body=b"first"), timeout=60)
            with caught(TransportError):
                await transport.send(post(url, body=b"second"), timeout=60)
        expect(received, [b"first", b"second"], "what the server read")

    @pytest.mark.parametrize("how", ["whole", "streamed"])
    @pytest.mark.parametrize("end", ["cancelled", "timed out"])
    @in_loop
    async def test_a_request_that_is_given_up_closes_its_connection_and_no_other(self, how: str, end: str) -> None:
        """The server has not begun to answer, so nothing but the close tells it that the caller has gone."""

        arrived: asyncio.Queue[bytes] = asyncio.Queue()
        gone: asyncio.Queue[bytes] = asyncio.Queue()
        answer = asyncio.Event()

        async def handler(connection: Connection) -> None:
            body = (await connection.request()).body
            arrived.put_nowait(body)
            if body == b"kept":
                await answer.wait()
                return await connection.reply(b"ok")
            await connection.closed()
            gone.put_nowait(body)

        async with self.facing(handler) as (transport, url):
            kept = asyncio.ensure_future(_body(transport, post(url, body=b"kept"), how))
            limit = 30 if end == "cancelled" else 0.1
            given_up = asyncio.ensure_future(_body(transport, post(url, body=b"given up"), how, limit=limit))
            expect({await arrived.get(), await arrived.get()}, {b"kept", b"given up"}, "what the server got")
            if end == "cancelled":
                given_up.cancel()
            (outcome,) = await asyncio.gather(given_up, return_exceptions=True)
            wanted = asyncio.CancelledError if end == "cancelled" else RequestTimeout
            expect(type(outcome), wanted, "what the request ends with")
            expect(await asyncio.wait_for(gone.get(), 5), b"given up", "the connection that was closed")
            answer.set()
            expect(await kept, b"ok", "the answer to the other request")

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @in_loop
    async def test_a_request_that_is_cancelled_while_it_connects_leaves_no_connection(self, scheme: str) -> None:
        arrived, gone = asyncio.Event(), asyncio.Event()

        async def deaf(connection: Connection) -> None:
            arrived.set()
            await connection.closed()
            gone.set()

        async with self.facing(deaf) as (transport, url):
            request = post(url.replace("http", scheme), body=b"")
            task = asyncio.ensure_future(transport.send(request, timeout=60))
            await arrived.wait()
            task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            expect(type(outcome), asyncio.CancelledError, "what the request ends with")
            await asyncio.wait_for(gone.wait(), _SECONDS)

    @pytest.mark.parametrize("how", ["whole", "streamed"])
    @in_loop
    async def test_many_requests_that_are_cancelled_leave_no_descriptor(self, how: str) -> None:
        if descriptors() is None:
            pytest.skip("this system does not say which descriptors are open")

        async def give_up(count: int) -> None:
            before = descriptors() or 0
            tasks = [asyncio.ensure_future(_body(transport, post(url), how)) for _ in range(count)]
            while (descriptors() or 0) < before + count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        async with self.facing(after_request(then="silence")) as (transport, url):
            await give_up(1)  # what a transport opens for itself, it keeps
            await asyncio.sleep(0.1)
            before = descriptors() or 0
            for _ in range(2):
                await give_up(40)
            for _ in range(300):
                if (descriptors() or 0) <= before:
                    break
                await asyncio.sleep(0.01)
            expect(max((descriptors() or 0) - before, 0), 0, "descriptors that 80 cancelled requests left")

    @in_loop
    async def test_an_answer_whose_last_byte_has_come_is_not_lost_to_a_cancellation(self) -> None:
        """Both come in one turn of the loop, the last byte first. What was paid for is handed over."""

        loop = asyncio.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0))
        watched, other = socket.socketpair()
        arrived, go, sent, over = (threading.Event() for _ in range(4))

        def play() -> None:
            connection, _ = listener.accept()
            with connection:
                read = b""
                while not read.endswith(b"{}"):
                    read += connection.recv(65536)
                arrived.set()
                go.wait(_SECONDS)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npaid")
                other.sendall(b"x")
                sent.set()
                over.wait(_SECONDS)

        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        transport = self.made()
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            task = asyncio.ensure_future(transport.send(post(url, body=b"{}"), timeout=60))
            while not arrived.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

            def cancel() -> None:
                loop.remove_reader(watched)
                task.cancel()

            loop.add_reader(watched, cancel)
            await asyncio.sleep(0.01)
            go.set()
            sent.wait(_SECONDS)  # the loop stands still, and so finds both when it looks again
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            await transport.aclose()
        finally:
            over.set()
            thread.join(_SECONDS)
            for each in (listener, watched, other):
                each.close()
        found = (getattr(outcome, "body", outcome), task.cancelling())
        expect(found, (b"paid", 1), "the answer, and how often its task was cancelled")

    @in_loop
    async def test_aclose_fails_the_requests_in_flight(self) -> None:
        arrived = asyncio.Event()

        async def handler(connection: Connection) -> None:
            await connection.request()
            arrived.set()
            await connection.closed()

        async with self.facing(handler) as (transport, url):
            task = asyncio.ensure_future(transport.send(post(url), timeout=60))
            await arrived.wait()
            await transport.aclose()
            with caught(TransportError) as errors:
                await asyncio.wait_for(task, _SECONDS)
            self.says(errors[0], "closed")

    @in_loop
    async def test_many_requests_at_once_each_get_their_own_answer(self) -> None:
        async with self.facing(replying(None)) as (transport, url):
            bodies = [b"%d" % number for number in range(300)]
            answers = await asyncio.gather(*(transport.send(post(url, body=b), timeout=60) for b in bodies))
        expect([answer.body for answer in answers], bodies, "300 answers")

    @in_loop
    async def test_a_stream_that_was_read_to_its_end_leaves_its_connection_to_the_next_request(self) -> None:
        connections = 0

        async def handler(connection: Connection) -> None:
            nonlocal connections
            connections += 1
            while True:
                await connection.request()
                await connection.write(CHUNKED + chunk(b"one") + chunk(b""))

        async with self.facing(handler) as (transport, url):
            for _ in range(3):
                expect(await _body(transport, post(url), "streamed"), b"one", "a stream")
        expect(connections, 1, "the number of connections for three streams in a row")


async def _body(transport: Transport, request: HttpRequest, how: str, *, limit: float = 60) -> bytes:
    """The body of an answer, asked for "whole" or "streamed"."""
    if how == "whole":
        return (await transport.send(request, timeout=limit)).body
    async with transport.stream(request, timeout=limit) as response:
        return await response.read()
