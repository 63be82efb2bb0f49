"""Checks of what a transport belongs to: event loops, threads, forked processes."""

import asyncio
import gc
import os
import threading
from typing import TYPE_CHECKING

import pytest

from lm_deluge.testing._expect import expect, in_child, in_threads
from lm_deluge.testing._transport_checks import Checks, post, replying
from lm_deluge.testing._transport_peer import Connection, serve

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LoopChecks"]

_SECONDS = 60.0
_patient = replying()


class LoopChecks(Checks):
    """One transport in many places."""

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

        in_threads([lambda: self.run(server()), client])
        expect(len(closed), 2, "the number of connections that were closed")

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

        in_threads([lambda: self.run(main()) for _ in range(4)])
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
                expect(in_child(lambda: self.run(ask(2))), repr([b"ok"] * 2), "what the forked child got")
            finally:
                forked.set()

        answers: list[bytes] = []
        in_threads([lambda: answers.extend(self.run(parent())), child])
        expect(answers, [b"ok"] * 4, "the parent's answers, before the fork and after it")
        expect(len(served), 2, "the number of connections: one of the parent's, one of the child's")
