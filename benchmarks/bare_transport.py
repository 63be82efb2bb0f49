"""The limit for misses: bodies made beforehand, sent by the HTTP client alone, answers read and thrown away.

python -m benchmarks.bare_transport URL REQUESTS CONCURRENCY RESULT_FILE
"""

import asyncio
import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import uvloop
from pyreqwest.client import Client, ClientBuilder

from benchmarks import workload

HEADERS = {"authorization": "Bearer none", "content-type": "application/json"}


def body(number: int) -> bytes:
    message = {"role": "user", "content": workload.prompt(number)}
    return json.dumps({"model": "gpt-4.1-mini", "messages": [message]}).encode()


async def send(client: Client, url: str, content: bytes) -> bytes:
    request = client.post(url).headers(HEADERS).body_bytes(content).timeout(timedelta(seconds=60)).build()
    return (await (await request.send()).bytes()).to_bytes()


async def rate(url: str, requests: int, concurrency: int) -> float:
    client = ClientBuilder().no_proxy().build()
    await send(client, url, body(0))
    bodies = iter([body(number) for number in range(requests)])

    async def work() -> None:
        for content in bodies:
            if not await send(client, url, content):
                raise AssertionError("an empty answer")

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return requests / (time.perf_counter() - start)


if __name__ == "__main__":
    url, requests, concurrency, result = sys.argv[1:]
    figure = uvloop.run(rate(url, int(requests), int(concurrency)))
    Path(result).write_text(json.dumps({"rate": figure}))
