"""Give calls up by the hundred, and count the descriptors that are left.

``python -m tests.stress.descriptors --rounds 10 --calls 150`` prints a row for each transport, each kind of call and
each way to give it up, and ends with status 1 if a second after a round the process holds more descriptors than before
the first. The server, a process of its own, accepts every connection and never begins to answer.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from lm_deluge.errors import RequestTimeout
from lm_deluge.transport import AiohttpTransport, AsyncioTransport, Transport
from lm_deluge.wire import HttpRequest

__all__ = ["Row", "main", "measure", "silent_server"]

TRANSPORTS: dict[str, Callable[[], Transport]] = {"asyncio": AsyncioTransport, "aiohttp": AiohttpTransport}
HOW = ("whole", "streamed")
END = ("cancelled", "timed out")

_SERVER = """
import socket
server = socket.create_server(("127.0.0.1", 0), backlog=4096)
print(server.getsockname()[1], flush=True)
taken = []
while True:
    taken.append(server.accept()[0])
"""
_OPEN = Path("/proc/self/fd" if Path("/proc/self/fd").exists() else "/dev/fd")
_PATIENCE = 1.0  # seconds after a round
_TIMEOUT = 0.3


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What ten rounds of one kind left.

    Attributes:
        most: descriptors beyond those at the start while calls were in flight.
        left: descriptors beyond those at the start a second after a round, in the worst round.
        longest: seconds until none was left, in the slowest round.
    """

    transport: str
    how: str
    end: str
    most: int
    left: int
    longest: float


@contextmanager
def silent_server() -> Iterator[str]:
    """The URL of a server that takes connections and says nothing."""
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            server.kill()


async def measure(url: str, transport: str, how: str, end: str, *, rounds: int, calls: int) -> Row:
    """Give calls up in rounds, and look at the descriptors after each."""
    client = TRANSPORTS[transport]()
    request = HttpRequest(method="POST", url=url, headers={}, body=b"{}")
    limit = 600.0 if end == "cancelled" else _TIMEOUT

    async def whole() -> None:
        await client.send(request, timeout=limit)

    async def streamed() -> None:
        async with client.stream(request, timeout=limit) as response:
            await response.read()

    call: Callable[[], Coroutine[Any, Any, None]] = whole if how == "whole" else streamed
    for _ in range(2):
        await _give_up([call()], end)  # what a loop and a client open for themselves, they keep
    before, most, left, longest = _descriptors(), 0, 0, 0.0
    for _ in range(rounds):
        most = max(most, await _give_up([call() for _ in range(calls)], end) - before)
        start = time.perf_counter()
        while _descriptors() > before and time.perf_counter() - start < _PATIENCE:
            await asyncio.sleep(0.01)
        longest = max(longest, time.perf_counter() - start)
        left = max(left, _descriptors() - before)
    await client.aclose()
    return Row(transport=transport, how=how, end=end, most=most, left=left, longest=longest)


async def _give_up(calls: list[Coroutine[Any, Any, None]], end: str) -> int:
    """Start calls and give them up once they wait for an answer. Returns how many descriptors were open then."""
    before = _descriptors()
    tasks = [asyncio.ensure_future(call) for call in calls]
    start, most = time.perf_counter(), 0
    while most < before + len(calls) and time.perf_counter() - start < 10 and not all(task.done() for task in tasks):
        await asyncio.sleep(0.01)
        most = max(most, _descriptors())
    if end == "cancelled":
        for task in tasks:
            task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(outcome, asyncio.CancelledError if end == "cancelled" else RequestTimeout):
            raise AssertionError(f"a call ended with {outcome!r}")
    return most


def _descriptors() -> int:
    return len(list(_OPEN.iterdir()))


def main(arguments: list[str] | None = None) -> int:
    """Measure everything and print it. 1 if descriptors were left."""
    parser = argparse.ArgumentParser(description="Give calls up and count the descriptors that are left.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=150)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="uvloop")
    options = parser.parse_args(arguments)
    run = uvloop.run if options.loop == "uvloop" else asyncio.run
    failed = False
    print(f"{options.rounds} rounds of {options.calls} calls each, {options.loop}")
    print(f"{'transport':10} {'calls':9} {'given up':10} {'open at most':>13} {'left after 1 s':>15} {'none left':>16}")
    with silent_server() as url:
        for transport in TRANSPORTS:
            for how in HOW:
                for end in END:
                    row = run(measure(url, transport, how, end, rounds=options.rounds, calls=options.calls))
                    failed = failed or row.left > 0
                    print(
                        f"{transport:10} {how:9} {end:10} {row.most:13} {row.left:15} {row.longest:14.2f} s", flush=True
                    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
