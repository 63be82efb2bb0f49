"""The server that every contender talks to: OpenAI Chat Completions with GSM8K answers, as fast as Python can.

Run as a process of its own (``python -m benchmarks.server``) it prints its port and then serves until it is ended.
Answers are rendered beforehand; a request costs one JSON decoding and one dictionary look-up. ``capacity`` measures how
many requests a second it can serve, so that a table never shows the server's limit as a client's.
"""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import msgspec
import psutil
import uvloop

from benchmarks import workload

_RATE_LIMITS = (
    b"x-ratelimit-limit-requests: 30000\r\nx-ratelimit-limit-tokens: 150000000\r\n"
    b"x-ratelimit-remaining-requests: 29999\r\nx-ratelimit-remaining-tokens: 149999000\r\n"
    b"x-ratelimit-reset-requests: 2ms\r\nx-ratelimit-reset-tokens: 0s\r\n"
)
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nopenai-processing-ms: 312\r\nopenai-version: 2020-10-01\r\n"
    + _RATE_LIMITS
    + b"x-request-id: req_%024d\r\ncontent-length: %d\r\n\r\n"
)


class _Message(msgspec.Struct):
    content: str | list[dict[str, str]]


class _Body(msgspec.Struct):
    messages: list[_Message]


_decode = msgspec.json.Decoder(_Body).decode


def _render(question: str, answer: str) -> tuple[bytes, bytes]:
    """An answer's body, before and after its id."""
    prompt_tokens, completion_tokens = len(question) // 4 + 8, len(answer) // 4 + 1
    details = {"audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    body = {
        "id": "chatcmpl-@",
        "object": "chat.completion",
        "created": 1760000000,
        "model": "gpt-4.1-mini-2025-04-14",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, **details},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_4fce0778af",
    }
    before, _, after = msgspec.json.encode(body).partition(b"@")
    return before, after


_ANSWERS = {question: _render(question, answer) for question, answer in workload.rows()}


def _answered(number: int, before: bytes, after: bytes) -> bytes:
    """A whole answer with ids made from ``number``."""
    id = b"%029d" % number
    return _HEAD % (number, len(before) + len(id) + len(after)) + before + id + after


def _text(message: _Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(part.get("text", "") for part in message.content)


class _Connection(asyncio.Protocol):
    served = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        received = self._received + data
        answers = []
        while (end := received.find(b"\r\n\r\n")) >= 0:
            length = int(received[:end].lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            start, stop = end + 4, end + 4 + length
            if len(received) < stop:
                break
            answers.append(self._answer(received[start:stop]))
            received = received[stop:]
        self._received = received
        if answers:
            self._transport.write(b"".join(answers))

    def _answer(self, body: bytes) -> bytes:
        _Connection.served += 1
        return _answered(_Connection.served, *_ANSWERS[workload.question_of(_text(_decode(body).messages[-1]))])


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Server:
    """A server that runs in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        self.port = int(process.stdout.readline())
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self._process = psutil.Process(process.pid)

    def cpu_seconds(self) -> float:
        """What it has cost so far."""
        times = self._process.cpu_times()
        return times.user + times.system


@contextmanager
def running() -> Iterator[Server]:
    """A server, ended with the block."""
    command = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=workload.ROOT) as process:
        try:
            yield Server(process)
        finally:
            process.terminate()


def capacity(server: Server, *, requests: int = 20_000, connections: int = 50) -> float:
    """Requests a second that one core serves: requests over the server's own CPU time, whatever the load costs."""
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": workload.prompt(0)}]})
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    length = len(_answered(0, *_ANSWERS[workload.prompt(0)]))  # the same for all, as ids are padded

    def load() -> None:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            for _ in range(requests // connections):
                connection.sendall(request)
                left = length
                while left:
                    left -= len(connection.recv(left))

    before = server.cpu_seconds()
    threads = [threading.Thread(target=load) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return requests / (server.cpu_seconds() - before)


if __name__ == "__main__":
    uvloop.run(_serve())
