"""Redis servers: between the cache and a real server stands one that changes some of its replies.

A case is JSON, a list of ``[number of the reply, how, bytes in hexadecimal]``. How is ``"instead"``, ``"before"``,
``"after"``, ``"cut"`` (the bytes are a number), ``"endless"`` (they are repeated), or ``"silent"``.
"""

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from hypothesis import strategies as st

from lm_deluge.cache import RedisCache

from ...cache.redis_server import RedisServer
from ...security import hostile
from .. import edits
from ..caching import Use

SECONDS = 45.0
"""A server that does not answer is given up after 10 seconds, each time; after that these cases have good replies."""
MEGABYTES = 300
_PATIENCE = 0.3


def missing() -> str | None:
    """What has to be installed first."""
    return None if shutil.which("redis-server") or shutil.which("valkey-server") else "there is no redis-server"


def target(data: bytes, tmp: Path) -> list[str]:
    try:
        faults = msgspec.json.decode(data, type=list[tuple[int, str, str]])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        faults = []
    server = _server()
    with server.client() as client:
        client.flushall()
    with RedisCache(server.url) as good:
        for number in range(4):
            good.put(hostile.prompt(number), hostile.answer(number))
    between = _Between(server, faults)
    used = Use("", is_sound=not faults)  # a reply that is changed may say that there is nothing
    try:
        cache_ = used.done("open", lambda: RedisCache(between.url))
        if cache_ is not None:
            used.whole(cache_)
            used.done("close", cache_.close)
    finally:
        between.close()
    for error in used.raised.values():
        assert error.isprintable(), "a server's words drive the terminal"
    return used.said()


@cache
def _server() -> RedisServer:
    server = RedisServer()  # ends with this process, which leads its group
    server.start()
    return server


class _Between:
    """A server that passes commands on, and replies but for those that a case changes."""

    def __init__(self, server: RedisServer, faults: list[tuple[int, str, str]]) -> None:
        self._server = server
        self._faults = {number: (how, text) for number, how, text in faults}
        self._replies = 0
        self._open = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._open = False
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        path = self._server.url.removeprefix("unix://")
        with suppress(OSError, ValueError), connection, socket.socket(socket.AF_UNIX) as behind:
            behind.connect(path)
            commands, replies = connection.makefile("rb"), behind.makefile("rb")
            while self._open and (command := _frame(commands)):
                behind.sendall(command)
                number, self._replies = self._replies, self._replies + 1
                reply = _frame(replies)
                if number not in self._faults:
                    connection.sendall(reply)
                    continue
                for piece in self._changed(reply, *self._faults[number]):
                    connection.sendall(piece)
                connection.settimeout(_PATIENCE)  # who waits for more is not made to wait in vain

    def _changed(self, reply: bytes, how: str, text: str) -> Iterator[bytes]:
        what = bytes.fromhex(text)
        match how:
            case "instead":
                yield what
            case "before":
                yield what + reply
            case "after":
                yield reply + what
            case "cut":
                yield reply[: int.from_bytes(what[:2], "big") % (len(reply) + 1)]
            case "endless":
                yield reply[:1]
                while self._open:
                    yield what * 1_000
            case "silent":
                while self._open:
                    threading.Event().wait(0.05)


def _frame(stream: BinaryIO) -> bytes:
    """One command or reply, with all that is in it."""
    line = stream.readline()
    match line[:1]:
        case b"$" | b"=" if line[1:2] != b"-":
            return line + stream.read(int(line[1:]) + 2)
        case b"*" | b"~" | b">" if line[1:2] != b"-":
            return line + b"".join(_frame(stream) for _ in range(int(line[1:])))
        case b"%":
            return line + b"".join(_frame(stream) for _ in range(2 * int(line[1:])))
    return line


_REPLIES = [
    b"+OK\r\n", b"+\r\n", b":0\r\n", b":-1\r\n", b":99999999999999999999\r\n", b"$-1\r\n", b"$0\r\n\r\n",
    b"$5000000000\r\nx", b"*0\r\n", b"*-1\r\n", b"*2000000000\r\n", b"*1\r\n" * 50, b"*1\r\n" * 5_000,
    b"*1\r\n" * 100_000, b"*2\r\n$1\r\n0\r\n*0\r\n", b"*2\r\n$1\r\n1\r\n*0\r\n", b"%1\r\n+a\r\n+b\r\n",
    b"~1\r\n:1\r\n", b",1.5\r\n", b",nan\r\n", b"#t\r\n", b"_\r\n", b"(1234567890123456789012345678901234\r\n",
    b">2\r\n+pubsub\r\n+x\r\n", b"=6\r\ntxt:ab\r\n", b"!3\r\nERR\r\n", b"|1\r\n+a\r\n+b\r\n:1\r\n",
    b"-ERR \x1b]0;x\x07\x1b[2J\r\n", b"-\r\n", b"-MOVED 1 127.0.0.1:1\r\n", b"-LOADING x\r\n", b"-NOSCRIPT x\r\n",
    b"-WRONGTYPE x\r\n", b"-OOM x\r\n", b"-NOAUTH x\r\n", b"-READONLY x\r\n", b"-ERR " + b"x" * 70_000 + b"\r\n",
    b"-ERR \xff\xfe\r\n", b"*1\r\n-ERR x\r\n", b"*3\r\n$-1\r\n:1\r\n*0\r\n", b"\r\n", b"$x\r\n", b"*x\r\n", b":x\r\n",
    b"?",
]  # fmt: skip


def cases() -> st.SearchStrategy[bytes]:
    reply = edits.any_of(_REPLIES) | edits.any_of(_REPLIES) | st.binary(max_size=12)
    number = st.integers(0, 90)
    fault = st.tuples(
        number, st.sampled_from(["instead", "instead", "instead", "before", "after", "cut"]), reply.map(bytes.hex)
    )
    slow = st.tuples(
        number,
        st.sampled_from(["endless", "silent"]),
        st.sampled_from([b"x", b"$1\r\nx\r\n", b"*1\r\n", b":1\r\n"]).map(bytes.hex),
    )
    faults: Any = st.lists(fault, min_size=1, max_size=3)
    one_in_many = st.integers(0, 40).flatmap(
        lambda pick: st.lists(slow, min_size=1, max_size=1) if pick == 40 else faults
    )
    return one_in_many.map(msgspec.json.encode)
