"""What the transports cost, beside a bare HTTP client in native code.

    python benchmarks/transport.py [--requests 2000] [--concurrency 225] [--rounds 5]

POSTs of 1 kB to a server in another process on the loopback interface, which answers 1 kB with twenty headers. Each
round runs every contender once, in turn, so that a busy machine slows all of them; the best round of each is shown, and
the least processor time that a request took.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta

import uvloop

from lm_deluge.transport import AiohttpTransport, AsyncioTransport, Transport
from lm_deluge.wire import HttpRequest

BODY = b'{"prompt":"' + b"a" * 1011 + b'"}'
HEADERS = {"authorization": "Bearer none", "content-type": "application/json", "anthropic-version": "2023-06-01"}

SERVER = r"""
import asyncio, uvloop
body = b'{"text":"' + b"b" * 1013 + b'"}'
limits = b"".join(b"x-ratelimit-%d: 12345\r\n" % n for n in range(18))
head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + limits + b"content-length: %d\r\n\r\n" % len(body)
answer = head + body

class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""
    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower() + b"\r\n"
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length:]
            self.transport.write(answer)

async def main():
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

uvloop.run(main())
"""

Send = Callable[[], Awaitable[bytes]]


def bare(url: str) -> Send:
    from pyreqwest.client import ClientBuilder

    client = ClientBuilder().no_proxy().build()
    limit = timedelta(seconds=60)

    async def send() -> bytes:
        response = await client.post(url).headers(HEADERS).body_bytes(BODY).timeout(limit).build().send()
        return (await response.bytes()).to_bytes()

    return send


def wrapped(url: str, transport: Transport, *, read_headers: int = 0) -> Send:
    request = HttpRequest(method="POST", url=url, headers=HEADERS, body=BODY)
    names = [f"x-ratelimit-{number}" for number in range(read_headers)]

    async def send() -> bytes:
        response = await transport.send(request, timeout=60)
        for name in names:
            response.headers.get(name)
        return response.body

    return send


async def rate(send: Send, requests: int, concurrency: int) -> tuple[float, float]:
    """Requests per second, and microseconds of processor time for each, once connections are open."""

    async def work(left: Iterator[int]) -> None:
        for _ in left:
            if len(await send()) != 1024:
                raise AssertionError("the server's answer did not arrive whole")

    async def batch(count: int) -> None:
        left = iter(range(count))
        await asyncio.gather(*(work(left) for _ in range(concurrency)))

    await batch(concurrency)
    start, cpu = time.perf_counter(), time.process_time()
    await batch(requests)
    return requests / (time.perf_counter() - start), (time.process_time() - cpu) / requests * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the transport with the bare HTTP client.")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=225)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1/messages"
            contenders = {
                "bare pyreqwest": bare(url),
                "AsyncioTransport": wrapped(url, AsyncioTransport(trust_env=False)),
                "AsyncioTransport, 8 headers read": wrapped(url, AsyncioTransport(trust_env=False), read_headers=8),
                "AiohttpTransport": wrapped(url, AiohttpTransport(trust_env=False)),
            }
            for loop, run in (("asyncio", asyncio.run), ("uvloop", uvloop.run)):
                rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
                for _ in range(options.rounds):
                    for name, send in contenders.items():
                        rounds[name].append(run(rate(send, options.requests, options.concurrency)))
                for name, measured in rounds.items():
                    best, least = max(each for each, _ in measured), min(each for _, each in measured)
                    print(f"{loop:8} {name:36} {best:7,.0f}/s  {least:6.1f} us")
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
