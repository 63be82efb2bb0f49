"""Time limits without a timer for each exchange: on a clock that the test drives, and on real ones."""

import asyncio
import heapq
import itertools
import random
import time

import pytest
import uvloop

from lm_deluge.errors import RequestTimeout, TransportError
from lm_deluge.transport import AsyncioTransport
from lm_deluge.transport._connection import Connection, Exchange
from lm_deluge.transport._deadlines import Deadlines

EARLY = 0.001


class Clock:
    """As much of an event loop as deadlines need."""

    def __init__(self):
        self.now = 1000.0
        self.timers = []
        self.fired = 0
        self._count = itertools.count()

    def time(self):
        return self.now

    def call_at(self, when, callback, *arguments):
        heapq.heappush(self.timers, (when, next(self._count), callback, arguments))

    def run_until(self, when):
        while self.timers and self.timers[0][0] <= when:
            self.now, _, callback, arguments = heapq.heappop(self.timers)
            self.fired += 1
            callback(*arguments)
        self.now = when


def exchange():
    return Exchange("a host", limit=1000, streamed=False)


@pytest.mark.parametrize("seed", range(20))
def test_each_exchange_expires_at_its_own_time_and_no_other(seed):
    rng, clock = random.Random(seed), Clock()
    deadlines = Deadlines(clock)
    running = {}
    for _ in range(500):
        clock.run_until(clock.now + rng.choice([0.0, 0.01, 0.5, 3.0]))
        for each, (limit, ends) in list(running.items()):
            if each.ended:
                assert ends - EARLY <= clock.now
                with pytest.raises(RequestTimeout, match=f"within {limit:g} s"):
                    each.whole()
                del running[each]
            else:
                assert ends > clock.now
                if rng.random() < 0.2:
                    each.finish(reusable=True)
                    deadlines.end(each, limit)
                    del running[each]
        limit = rng.choice([1.0, 1.0, 1.0, 10.0, 0.5, rng.random()])
        each = exchange()
        deadlines.begin(each, limit)
        running[each] = limit, clock.now + limit
        assert len(clock.timers) == len(deadlines._running) <= len({limit for limit, _ in running.values()}) + 50
    clock.run_until(clock.now + 11)
    assert all(each.ended for each in running)
    assert not clock.timers
    assert not deadlines._running


def test_it_expires_in_the_moment_its_time_is_over():
    clock = Clock()
    deadlines = Deadlines(clock)
    first, second, third = exchange(), exchange(), exchange()
    deadlines.begin(first, 5.0)
    clock.run_until(1002.0)
    deadlines.begin(second, 5.0)
    clock.run_until(1003.0)
    deadlines.begin(third, 5.0)
    deadlines.end(second, 5.0)
    clock.run_until(1004.99)
    assert not first.ended
    clock.run_until(1005.0)
    assert first.ended
    clock.run_until(1007.99)
    assert not third.ended
    clock.run_until(1008.0)
    assert third.ended
    assert not second.ended


def test_many_exchanges_need_few_timers_and_are_not_kept():
    clock = Clock()
    deadlines = Deadlines(clock)
    for number in range(10_000):
        each = exchange()
        deadlines.begin(each, 30.0)
        clock.run_until(1000.0 + number / 100)
        deadlines.end(each, 30.0)
        assert len(clock.timers) == 1
        assert len(deadlines._running[30.0]) == 0
    assert clock.fired <= 4
    clock.run_until(2000.0)
    assert not clock.timers


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_on_a_real_clock_limits_are_kept_to_the_millisecond(serve, post, run):
    """Some end early, some are answered: those that wait for their limit wait that long, and hardly longer."""
    limits = [0.2, 0.2, 0.35, 0.2, 0.35, 0.2]

    async def main():
        async def handler(connection):
            while True:
                body = (await connection.request()).body
                if body == b"answer":
                    await connection.reply(b"ok")
                else:
                    await connection.closed()

        async def ask(number, limit):
            await asyncio.sleep(number * 0.03)
            begun = time.monotonic()
            assert (await transport.send(post(peer.url, body=b"answer"), timeout=limit)).body == b"ok"
            begun = time.monotonic()
            with pytest.raises(RequestTimeout):
                await transport.send(post(peer.url), timeout=limit)
            return time.monotonic() - begun

        transport = AsyncioTransport()
        async with serve(handler) as peer:
            took = await asyncio.gather(*(ask(number, limit) for number, limit in enumerate(limits)))
            await transport.aclose()
        return took

    for attempt in range(3):
        took = run(main())
        # uvloop's clock stands still within a turn of the loop, and counts whole milliseconds.
        assert all(each > limit - 0.02 for each, limit in zip(took, limits, strict=True)), took
        if all(each < limit + 0.05 for each, limit in zip(took, limits, strict=True)):
            return
        assert attempt < 2, took  # again, if this machine was too busy


def test_nothing_is_sent_for_an_exchange_whose_time_is_over():
    """It ended while its connection was being opened. The connection is closed, as nobody answers for its state."""

    class Socket:
        written, aborted = 0, False

        def write(self, data):
            self.written += len(data)

        def is_closing(self):
            return False

        def abort(self):
            self.aborted = True

    socket, lost = Socket(), []
    connection = Connection(lost.append)
    connection.connection_made(socket)
    late = exchange()
    late.fail(TransportError("too late"))
    connection.send(b"POST / HTTP/1.1\r\n\r\n", b"body", late)
    assert socket.written == 0
    assert not connection.release()
    assert socket.aborted
