"""A server with the protocol of Redis that answers as a test says."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

Answer = Callable[[list[bytes]], Iterable[bytes]]
"""Gives the bytes to be sent for the words of a command, piece by piece."""


class HostileRedis:
    """Listens as long as the ``with`` block lasts. ``asked`` holds the words of all commands."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.asked: list[list[bytes]] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        for one in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self._open.append(connection)
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection.makefile("rb") as commands:
            while line := commands.readline():
                words = [commands.read(int(commands.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]
                self.asked.append(words)
                for piece in self._answer(words):
                    if self.over.is_set():
                        return
                    connection.sendall(piece)


def usual(words: list[bytes]) -> bytes:
    """What an empty server of our format says."""
    fixed = {
        b"GET": b"$1\r\n1\r\n",
        b"SCAN": b"*2\r\n$1\r\n0\r\n*0\r\n",
        b"HVALS": b"*0\r\n",
        b"LRANGE": b"*0\r\n",
        b"LLEN": b":0\r\n",
        b"HLEN": b":0\r\n",
        b"DBSIZE": b":0\r\n",
        b"MGET": b"*%d\r\n" % (len(words) - 1) + b"$-1\r\n" * (len(words) - 1),
    }
    return fixed.get(words[0].upper(), b"+OK\r\n")
