"""Helpers for the emulator's tests: requests over a real socket, with no SDK between."""

import http.client
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from lm_deluge.testing import Emulator, FakeClock


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def events(self) -> list[Any]:
        """The JSON data of a stream's events."""
        lines = [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: ")]
        return [msgspec.json.decode(line) for line in lines if line != b"[DONE]"]


Ask = Callable[..., Answer]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def emulator(clock: FakeClock) -> Iterator[Emulator]:
    """An emulator on a clock that stands still."""
    with Emulator(clock=clock) as running:
        yield running


@pytest.fixture
def ask() -> Iterator[Ask]:
    """``ask(emulator, body, path=..., headers=..., drop=...)`` over kept-alive connections, one for each emulator."""
    connections: dict[str, http.client.HTTPConnection] = {}

    def send(
        emulator: Emulator,
        body: Any = None,
        *,
        path: str = "/v1/messages",
        method: str = "POST",
        headers: dict[str, str] | None = None,
        drop: tuple[str, ...] = (),
        key: str = "k",
    ) -> Answer:
        sent = {
            "authorization": f"Bearer {key}",
            "content-type": "application/json",
            "anthropic-version": "2023-06-01",
            **(headers or {}),
        }
        for name in drop:
            del sent[name]
        if emulator.url not in connections:
            connections[emulator.url] = http.client.HTTPConnection(emulator.url.removeprefix("http://"), timeout=60)
        connection = connections[emulator.url]
        content = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        connection.request(method, path, content, sent)
        response = connection.getresponse()
        return Answer(response.status, {n.lower(): v for n, v in response.getheaders()}, response.read())

    yield send
    for connection in connections.values():
        connection.close()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """``until(condition)`` gives way to the server's thread until the condition holds, for a minute at most."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            time.sleep(0)

    return wait


@pytest.fixture(scope="module")
def module_emulator() -> Iterator[Emulator]:
    """One emulator for a whole module of tests that do not depend on its state."""
    with Emulator() as running:
        yield running
