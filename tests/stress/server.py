"""A provider on loopback that writes down what it was asked and what it has answered; a process of its own.

``python server.py LOG`` prints its port and serves until it is ended. Each line of the log is written at once:
``asked PHASE PROMPT TIME`` when a request is complete, ``written PHASE PROMPT TIME`` when the whole answer has been
handed to the socket. The prompt is the first word of the last message. A request says in ``x-stress`` how it is to be
treated: ``PHASE;MILLISECONDS;STATUS``.
"""

import asyncio
import os
import sys
import time
from typing import Any, cast

import msgspec

_USAGE = {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18}
_REFUSED = {"error": {"message": "Refused by the server of a stress program.", "type": "refused", "code": "refused"}}
_encode = msgspec.json.encode


class _Message(msgspec.Struct):
    content: str | list[dict[str, Any]]


class _Body(msgspec.Struct):
    messages: list[_Message]
    stream: bool = False


_decode = msgspec.json.Decoder(_Body).decode


def _word(message: _Message) -> str:
    content = message.content
    text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return text.split(maxsplit=1)[0]


def answer_to(prompt: str) -> str:
    """The text of the answer to a prompt, given its first word."""
    return f"the answer to {prompt}"


def _completion(prompt: str) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer_to(prompt), "refusal": None},
        "finish_reason": "stop",
    }
    return {
        "id": f"chatcmpl-{prompt}",
        "object": "chat.completion",
        "created": 1760000000,
        "model": "gpt-4.1-mini-2025-04-14",
        "choices": [choice],
        "usage": _USAGE,
    }


def _events(prompt: str) -> tuple[bytes, bytes]:
    """A streamed answer: its beginning and the rest."""

    def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        whole = {**_completion(prompt), "object": "chat.completion.chunk", "choices": choices, "usage": None, **more}
        return b"data: " + _encode(whole) + b"\n\n"

    first = event({"role": "assistant", "content": answer_to(prompt)})
    return first, event({}, "stop") + event({}, choices=[], usage=_USAGE) + b"data: [DONE]\n\n"


def _plain(status: int, body: bytes, more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % (status, len(body))
    return head + more + b"\r\n" + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class _Connection(asyncio.Protocol):
    log = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        received = self._received + data
        while (end := received.find(b"\r\n\r\n")) >= 0:
            head = received[:end].lower().decode("latin-1").split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
            stop = end + 4 + int(headers.get("content-length", "0"))
            if len(received) < stop:
                break
            self._take(headers, received[end + 4 : stop])
            received = received[stop:]
        self._received = received

    def _take(self, headers: dict[str, str], body: bytes) -> None:
        phase, milliseconds, status = headers.get("x-stress", "-;0;200").split(";")
        asked = _decode(body)
        prompt = _word(asked.messages[-1])
        self._note("asked", phase, prompt)
        loop = asyncio.get_running_loop()
        seconds = float(milliseconds) / 1000
        if int(status) != 200:
            retry = b"retry-after: 10\r\n" if status == "429" else b""  # and 1429 is 429 without
            refusal = _plain(int(status) % 1000, _encode(_REFUSED), retry)
            self._timer = loop.call_later(seconds, self._transport.write, refusal)
        elif asked.stream:
            self._timer = loop.call_later(seconds / 2, self._begin, phase, prompt, seconds / 2)
        else:
            self._timer = loop.call_later(seconds, self._end, phase, prompt, _plain(200, _encode(_completion(prompt))))

    def _begin(self, phase: str, prompt: str, seconds: float) -> None:
        first, rest = _events(prompt)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        self._transport.write(head + _chunk(first))
        end = _chunk(rest) + _chunk(b"")
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end, phase, prompt, end)

    def _end(self, phase: str, prompt: str, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)  # an answer is so small that the socket takes it whole
            self._note("written", phase, prompt)

    def _note(self, what: str, phase: str, prompt: str) -> None:
        os.write(self.log, f"{what} {phase} {prompt} {time.monotonic():.6f}\n".encode())


async def _serve(log: str) -> None:
    _Connection.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(sys.argv[1]))
    else:
        uvloop.run(_serve(sys.argv[1]))
