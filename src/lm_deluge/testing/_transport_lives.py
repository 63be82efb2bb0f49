"""Checks of what outlives a request: connections, event loops, threads, forked processes."""

import asyncio
import gc
import os
import select
import signal
import socket
import threading
import warnings
from collections.abc import Callable

import pytest

from lm_deluge.errors import ConnectionDropped, RequestTimeout, TransportError
from lm_deluge.testing._expect import expect
from lm_deluge.testing._transport_checks import Checks, caught, chunk, descriptors, post
from lm_deluge.testing._transport_peer import Connection, serve

__all__ = ["LifeChecks"]

_SECONDS = 60.0
_STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def _patient(connection: Connection) -> None:
    """Answer any number of requests on one connection."""
    while True:
        await connection.request()
        await connection.reply(b"ok")


class LifeChecks(Checks):
    """Connections that are kept, replaced and given up, and what they belong to."""

    def test_connections_are_reused_and_aclose_closes_them(self) -> None:
        async def main() -> None:
            opened: list[Connection] = []
            closed = asyncio.Event()

            async def handler(connection: Connection) -> None:
                opened.append(connection)
                try:
                    await _patient(connection)
                finally:
                    closed.set()

            transport = self.made()
            async with serve(handler) as peer:
                for _ in range(5):
                    await transport.send(post(peer.url), timeout=60)
                expect(len(opened), 1, "the number of connections for five requests in a row")
                await transport.aclose()
                await transport.aclose()
                await asyncio.wait_for(closed.wait(), _SECONDS)
                answer = await transport.send(post(peer.url), timeout=60)
                expect(answer.body, b"ok", "an answer after aclose, which opens a new connection")
                expect(len(opened), 2, "the number of connections")
                await transport.aclose()

        self.run(main())

    def test_a_connection_the_server_closed_while_idle_is_replaced(self) -> None:
        """The close can meet the next request on its way, which is then reported; sent again, it always succeeds."""

        async def main() -> int:
            connections = 0

            async def handler(connection: Connection) -> None:
                nonlocal connections
                connections += 1
                await connection.request()
                await connection.reply(b"ok")  # and closes without a word

            async def send_again_if_dropped() -> bytes:
                try:
                    return (await transport.send(post(peer.url), timeout=60)).body
                except ConnectionDropped:
                    return (await transport.send(post(peer.url), timeout=60)).body

            transport = self.made()
            async with serve(handler) as peer:
                for _ in range(20):
                    expect(await send_again_if_dropped(), b"ok", "an answer")
            return connections

        expect(self.run(main()), 20, "the number of connections that the server took")

    def test_a_request_the_server_read_is_never_sent_twice(self) -> None:
        """A POST that costs money: once its bytes were read, a dropped connection is reported and not repeated."""

        async def main() -> list[bytes]:
            received: list[bytes] = []

            async def handler(connection: Connection) -> None:
                received.append((await connection.request()).body)
                await connection.reply(b"ok")
                received.append((await connection.request()).body)  # it is read, and the connection closed

            transport = self.made()
            async with serve(handler) as peer:
                await transport.send(post(peer.url, body=b"first"), timeout=60)
                with caught(TransportError):
                    await transport.send(post(peer.url, body=b"second"), timeout=60)
            return received

        expect(self.run(main()), [b"first", b"second"], "what the server read")

    @pytest.mark.parametrize("how", ["whole", "streamed"])
    @pytest.mark.parametrize("end", ["cancelled", "timed out"])
    def test_a_request_that_is_given_up_closes_its_connection_and_no_other(self, how: str, end: str) -> None:
        """The server has not begun to answer, so nothing but the close tells it that the caller has gone."""

        async def main() -> None:
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

            async def ask(body: bytes, limit: float) -> bytes:
                if how == "whole":
                    return (await transport.send(post(peer.url, body=body), timeout=limit)).body
                async with transport.stream(post(peer.url, body=body), timeout=limit) as response:
                    return await response.read()

            transport = self.made()
            async with serve(handler) as peer:
                kept = asyncio.ensure_future(ask(b"kept", 30))
                given_up = asyncio.ensure_future(ask(b"given up", 30 if end == "cancelled" else 0.1))
                expect({await arrived.get(), await arrived.get()}, {b"kept", b"given up"}, "what the server got")
                if end == "cancelled":
                    given_up.cancel()
                (outcome,) = await asyncio.gather(given_up, return_exceptions=True)
                wanted = asyncio.CancelledError if end == "cancelled" else RequestTimeout
                expect(type(outcome), wanted, "what the request ends with")
                expect(await asyncio.wait_for(gone.get(), 5), b"given up", "the connection that was closed")
                answer.set()
                expect(await kept, b"ok", "the answer to the other request")
                await transport.aclose()

        self.run(main())

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_request_that_is_cancelled_while_it_connects_leaves_no_connection(self, scheme: str) -> None:
        async def main() -> None:
            arrived, gone = asyncio.Event(), asyncio.Event()

            async def deaf(connection: Connection) -> None:
                arrived.set()
                await connection.closed()
                gone.set()

            async with serve(deaf) as peer:
                url = peer.url.replace("http", scheme)
                task = asyncio.ensure_future(self.made().send(post(url, body=b""), timeout=60))
                await arrived.wait()
                task.cancel()
                (outcome,) = await asyncio.gather(task, return_exceptions=True)
                expect(type(outcome), asyncio.CancelledError, "what the request ends with")
                await asyncio.wait_for(gone.wait(), _SECONDS)

        self.run(main())

    @pytest.mark.parametrize("how", ["whole", "streamed"])
    def test_many_requests_that_are_cancelled_leave_no_descriptor(self, how: str) -> None:
        if descriptors() is None:
            pytest.skip("this system does not say which descriptors are open")

        async def main() -> None:
            async def silent(connection: Connection) -> None:
                await connection.request()
                await connection.closed()

            transport = self.made()

            async def ask() -> None:
                if how == "whole":
                    await transport.send(post(peer.url), timeout=60)
                else:
                    async with transport.stream(post(peer.url), timeout=60) as response:
                        await response.read()

            async def give_up(count: int) -> None:
                before = descriptors() or 0
                tasks = [asyncio.ensure_future(ask()) for _ in range(count)]
                while (descriptors() or 0) < before + count:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

            async with serve(silent) as peer:
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
                await transport.aclose()

        self.run(main())

    def test_an_answer_whose_last_byte_has_come_is_not_lost_to_a_cancellation(self) -> None:
        """Both come in one turn of the loop, the last byte first. What was paid for is handed over."""

        async def main() -> tuple[object, int]:
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
            return getattr(outcome, "body", outcome), task.cancelling()

        expect(self.run(main()), (b"paid", 1), "the answer, and how often its task was cancelled")

    def test_connections_end_with_their_event_loop_and_with_their_transport(self) -> None:
        """aclose() need not be called: a loop that ends and a transport that is dropped close their connections."""
        closed: list[Connection] = []

        async def handler(connection: Connection) -> None:
            try:
                await _patient(connection)
            finally:
                closed.append(connection)

        async def dropped() -> None:
            async with serve(handler) as peer:
                await self.made().send(post(peer.url), timeout=60)
                gc.collect()
                while not closed:  # noqa: ASYNC110
                    await asyncio.sleep(0)

        self.run(dropped())
        transport, ready = self.made(), threading.Event()
        url: list[str] = []
        ends: list[Callable[[], object]] = []

        async def server() -> None:
            loop, done = asyncio.get_running_loop(), asyncio.Event()
            async with serve(handler) as peer:
                url.append(peer.url)
                ends.append(lambda: loop.call_soon_threadsafe(done.set))
                ready.set()
                await done.wait()
                while len(closed) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0)

        def client() -> None:
            ready.wait(_SECONDS)
            self.run(transport.send(post(url[0]), timeout=60))
            ends[0]()

        self.in_threads([lambda: self.run(server()), client])
        expect(len(closed), 2, "the number of connections that were closed")

    def test_aclose_fails_the_requests_in_flight(self) -> None:
        async def main() -> None:
            arrived = asyncio.Event()

            async def handler(connection: Connection) -> None:
                await connection.request()
                arrived.set()
                await connection.closed()

            transport = self.made()
            async with serve(handler) as peer:
                task = asyncio.ensure_future(transport.send(post(peer.url), timeout=60))
                await arrived.wait()
                await transport.aclose()
                with caught(TransportError) as errors:
                    await asyncio.wait_for(task, _SECONDS)
                self.says(errors[0], "closed")

        self.run(main())

    def test_many_requests_at_once_each_get_their_own_answer(self) -> None:
        async def echo(connection: Connection) -> None:
            while True:
                await connection.reply((await connection.request()).body)

        async def main() -> None:
            transport = self.made()
            async with serve(echo) as peer:
                bodies = [b"%d" % number for number in range(300)]
                answers = await asyncio.gather(*(transport.send(post(peer.url, body=b), timeout=60) for b in bodies))
                await transport.aclose()
            expect([answer.body for answer in answers], bodies, "300 answers")

        self.run(main())

    def test_a_stream_that_was_read_to_its_end_leaves_its_connection_to_the_next_request(self) -> None:
        async def main() -> int:
            connections = 0

            async def handler(connection: Connection) -> None:
                nonlocal connections
                connections += 1
                while True:
                    await connection.request()
                    await connection.write(_STREAM + chunk(b"one") + chunk(b""))

            transport = self.made()
            async with serve(handler) as peer:
                for _ in range(3):
                    async with transport.stream(post(peer.url), timeout=60) as response:
                        expect(await response.read(), b"one", "a stream")
                await transport.aclose()
            return connections

        expect(self.run(main()), 1, "the number of connections for three streams in a row")

    def test_one_transport_serves_event_loops_one_after_the_other(self) -> None:
        transport = self.made()

        async def main() -> bytes:
            async with serve(_patient) as peer:
                return (await transport.send(post(peer.url), timeout=60)).body

        expect([self.run(main()) for _ in range(3)], [b"ok"] * 3, "answers in three loops")

    def test_one_transport_serves_event_loops_in_several_threads(self) -> None:
        transport, bodies = self.made(), []

        async def main() -> None:
            async with serve(_patient) as peer:
                for _ in range(20):
                    bodies.append((await transport.send(post(peer.url), timeout=60)).body)

        self.in_threads([lambda: self.run(main()) for _ in range(4)])
        expect(bodies, [b"ok"] * 80, "answers in four loops at once")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_child_has_connections_of_its_own_and_leaves_its_parents_alone(self) -> None:
        """The child uses its parent's transport while a thread of the parent goes on using it, on one connection."""
        transport = self.made()
        url: list[str] = []
        served: list[Connection] = []
        ready, forked = threading.Event(), threading.Event()

        async def handler(connection: Connection) -> None:
            served.append(connection)
            await _patient(connection)

        async def ask(count: int) -> list[bytes]:
            return [(await transport.send(post(url[0]), timeout=30)).body for _ in range(count)]

        async def parent() -> list[bytes]:
            async with serve(handler) as peer:
                url.append(peer.url)
                found = await ask(2)
                ready.set()
                while not forked.is_set():  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                found += await ask(2)
                await transport.aclose()
            return found

        def child() -> None:
            ready.wait(_SECONDS)
            try:
                expect(_in_child(lambda: self.run(ask(2))), repr([b"ok"] * 2), "what the forked child got")
            finally:
                forked.set()

        answers: list[bytes] = []
        self.in_threads([lambda: answers.extend(self.run(parent())), child])
        expect(answers, [b"ok"] * 4, "the parent's answers, before the fork and after it")
        expect(len(served), 2, "the number of connections: one of the parent's, one of the child's")


def _in_child(work: Callable[[], object]) -> str:
    """What a forked child says of its work."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 and later, about the threads
        child = os.fork()
    if not child:
        try:
            try:
                said = repr(work())
            except BaseException as error:  # noqa: BLE001 - told to the parent
                said = repr(error)
            os.write(writing, said.encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], _SECONDS)
        return os.read(reading, 10_000).decode() if ready else "it hangs"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
