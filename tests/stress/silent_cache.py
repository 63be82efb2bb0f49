"""What a run does beside a cache that stops answering: ``python -m tests.stress.silent_cache [--prompts 600]``.

A real Redis server is stopped (SIGSTOP) in mid-run, restarted in mid-run, or delayed by half a second for each command;
a mapping and an object of the user's hang. Each with and without single flight. The table says how long the run took,
how many prompts were answered and asked, what the cache holds afterwards, and what a second run had to pay again.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lm_deluge import LLMClient
from lm_deluge.cache import DistributedDictCache, RedisCache
from lm_deluge.prompt import Conversation
from lm_deluge.response import APIResponse
from lm_deluge.testing import Answer, Emulator

from ..cache.redis_server import RedisServer

LIMITS = {"max_requests_per_minute": 10_000_000, "max_tokens_per_minute": 10_000_000_000}


class Outcome(NamedTuple):
    """What came of one case."""

    case: str
    single_flight: bool
    seconds: float
    answers: int
    calls: int
    stored: int
    paid_again: int
    failures: int

    def row(self) -> str:
        flight = "yes" if self.single_flight else "no"
        return (
            f"{self.case:28} {flight:13} {self.seconds:7.1f} {self.answers:7} {self.calls:5} {self.stored:6} "
            f"{self.paid_again:10} {self.failures:8}"
        )


HEAD = "case                         single flight seconds answers calls stored paid again failures"


class Gate:
    """Lets calls through, or makes them hang."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def wait(self) -> None:
        self._open.wait(600)


class HangingMapping:
    """A dictionary whose calls hang while its gate is closed."""

    def __init__(self, gate: Gate) -> None:
        self.data: dict[str, bytes] = {}
        self._gate = gate

    def get(self, key: str) -> bytes | None:
        self._gate.wait()
        return self.data.get(key)

    def put(self, key: str, value: bytes) -> None:
        self._gate.wait()
        self.data[key] = value


class HangingObject:
    """The same, as an object that takes prompts."""

    def __init__(self, gate: Gate) -> None:
        self.data: dict[bytes, APIResponse] = {}
        self._gate = gate

    def get(self, prompt: Conversation) -> APIResponse | None:
        self._gate.wait()
        return self.data.get(prompt.digest)

    def put(self, prompt: Conversation, response: APIResponse) -> None:
        self._gate.wait()
        self.data[prompt.digest] = response


class Delay:
    """A proxy before a server, that holds up each piece which a client sends."""

    def __init__(self, port: int, seconds: float) -> None:
        self._port = port
        self._seconds = seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._port))
                self._open += [near, far]
                threading.Thread(target=self._pass, args=(near, far, self._seconds), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near, 0.0), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, seconds: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if seconds:
                    time.sleep(seconds)
                target.sendall(data)


def prompts(count: int) -> list[str]:
    return [f"question {number}" for number in range(count)]


def run(
    cache: Any,
    emulator: Emulator,
    count: int,
    *,
    single_flight: bool,
    trouble: Callable[[], None] = lambda: None,
    after: int = 0,
    concurrent: int = 100,
) -> tuple[float, int, int, int]:
    """Seconds, answers, calls and failures of a run; ``trouble`` comes once ``after`` prompts were answered."""
    before = emulator.calls
    client = LLMClient(
        "gpt-4.1-mini",
        cache=cache,
        single_flight=single_flight,
        base_url=emulator.openai_base_url,
        api_key="any",
        max_concurrent_requests=concurrent,
        **LIMITS,
    )

    async def main() -> int:
        good = 0
        loop = asyncio.get_running_loop()
        async for response in client.process_prompts_iter(prompts(count), show_progress=False):
            good += not response.is_error
            if good == after:
                await loop.run_in_executor(None, trouble)
        return good

    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        good = asyncio.run(main())
    took = time.monotonic() - began
    failures = client.report().cache_failures
    client.close()
    return took, good, emulator.calls - before, failures


CASES = ["none", "redis stopped", "redis restarted", "redis 0.5 s a command", "mapping hangs", "object hangs"]


@contextlib.contextmanager
def cache_in(case: str, pause: float) -> Iterator[tuple[Callable[[], Any], Callable[[], None], Callable[[], None]]]:
    """What makes the cache of a case, what brings the trouble, and what ends it."""
    if case in ("mapping hangs", "object hangs"):
        gate = Gate()
        kept: Any = HangingMapping(gate) if case == "mapping hangs" else HangingObject(gate)
        wrapped = DistributedDictCache(kept, "stress") if case == "mapping hangs" else kept
        yield lambda: wrapped, gate.close, gate.open
        gate.open()
        return
    with RedisServer("--appendonly", "yes", "--appendfsync", "always", tcp=True) as server:
        if case == "none":
            yield lambda: RedisCache(server.url), lambda: None, lambda: None
        elif case == "redis stopped":
            yield (
                lambda: RedisCache(server.url),
                lambda: server.send(signal.SIGSTOP),
                lambda: server.send(signal.SIGCONT),
            )
            server.send(signal.SIGCONT)
        elif case == "redis restarted":

            def restart() -> None:
                server.stop()
                starter = threading.Timer(pause, server.start)
                starters.append(starter)
                starter.start()

            starters: list[threading.Timer] = []
            yield lambda: RedisCache(server.url), restart, lambda: [one.join() for one in starters] and None
            for one in starters:
                one.join()
        else:
            with contextlib.closing(Delay(server.port, 0.5)) as proxy:
                yield lambda: RedisCache(f"redis://127.0.0.1:{proxy.port}/0"), lambda: None, lambda: None


def measure(case: str, count: int, *, single_flight: bool, latency: float = 0.2, pause: float = 1.0) -> Outcome:
    """One case: a run beside the trouble, and the same prompts again when it is over."""
    with Emulator(latency=latency, responder=lambda _: Answer(text="fine")) as emulator, cache_in(case, pause) as parts:
        make, begin, end = parts
        cache = make()
        took, good, calls, failures = run(
            cache,
            emulator,
            count,
            single_flight=single_flight,
            trouble=begin,
            after=count // 6,
        )
        end()
        settle(cache)
        time.sleep(pause)
        again = make()  # as the next process would
        _, more, paid_again, _ = run(again, emulator, count, single_flight=single_flight)
        assert more == count
        stored = holds(again, count)
        for one in {id(each): each for each in (cache, again)}.values():
            if hasattr(one, "close"):
                one.close()
    return Outcome(case, single_flight, took, good, calls, stored, paid_again, failures)


def settle(cache: Any) -> None:
    """Let the cache be asked again and take what was kept for it, as the end of a process or its next run does."""
    if isinstance(cache, RedisCache):
        cache.close()


def holds(cache: Any, count: int) -> int:
    """How many of the answers the cache holds by itself."""
    wanted = [Conversation.user(text) for text in prompts(count)]
    if isinstance(cache, HangingObject):
        return sum(cache.get(prompt) is not None for prompt in wanted)
    return sum(found.response is not None for found in asyncio.run(cache.get_many(wanted)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=600)
    parser.add_argument("--case", action="append", choices=CASES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        os.environ["LM_DELUGE_SPILL"] = str(Path(directory, "spill"))
        sys.stdout.write(HEAD + "\n")
        for case in options.case or CASES:
            for single_flight in (False, True):
                outcome = measure(case, options.prompts, single_flight=single_flight)
                sys.stdout.write(outcome.row() + "\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
