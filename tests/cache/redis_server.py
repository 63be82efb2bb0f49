"""A real Redis server for tests: private, on a socket or port of its own, without persistence."""

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import pytest

_START_SECONDS = 60.0


class RedisServer:
    """A server that lives as long as the ``with`` block, and can be stopped and started again inside it.

    Args:
        options: further command-line options, such as ``"--maxmemory", "3mb"``.
        tcp: listen on a port of the loopback interface, not on a socket file.
        password: what clients must give.
    """

    def __init__(self, *options: str, tcp: bool = False, password: str | None = None) -> None:
        self._program = binary()
        self._options = options
        self._password = password
        self._directory = Path(tempfile.mkdtemp(prefix="redis-"))  # short: a socket's path has 107 characters at most
        self._socket = self._directory / "socket"
        self.port = _free_port() if tcp else 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """With the password, if there is one."""
        user = f":{quote(self._password, safe='&')}@" if self._password else ""
        return f"redis://{user}127.0.0.1:{self.port}/0" if self.port else f"unix://{user}{self._socket}"

    def client(self) -> Any:
        """A client for looking into the server behind the store's back. To be closed."""
        import redis

        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        where = ["--bind", "127.0.0.1"] if self.port else ["--unixsocket", str(self._socket)]
        secret = ["--requirepass", self._password] if self._password else []
        self._process = subprocess.Popen(
            [
                self._program,
                "--port",
                str(self.port),
                *where,
                "--save",
                "",
                *([] if "--appendonly" in self._options else ["--appendonly", "no"]),
                *secret,
                *self._options,
            ],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    def send(self, number: int) -> None:
        """Send a signal to the server, such as ``SIGSTOP``."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _wait(self) -> None:
        import redis

        deadline = time.monotonic() + _START_SECONDS
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    if time.monotonic() > deadline or self._process is None or self._process.poll() is not None:
                        raise
                    time.sleep(0.01)


def binary() -> str:
    """The path of redis-server or valkey-server. Skips the test if there is none, unless it is required."""
    missing = None
    if importlib.util.find_spec("redis") is None:
        missing = "redis-py is not installed; install it with: pip install redis"
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        missing = "there is no redis-server on the path; install it with: apt-get install redis-server"
    if missing is None:
        return str(found)
    if os.environ.get("LM_DELUGE_REQUIRE_REDIS"):
        pytest.fail(f"LM_DELUGE_REQUIRE_REDIS is set, but {missing}")
    pytest.skip(missing)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
