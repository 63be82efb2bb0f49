"""The emulator answers programs and its own address, and no web page of somebody else."""

import http.client
from typing import Any

import pytest

from lm_deluge.testing import Emulator
from lm_deluge.testing.origins import is_welcome

OWN_HOSTS = [
    "127.0.0.1:8000",
    "127.0.0.1",
    "127.1.2.3:1",
    "localhost:8000",
    "LocalHost",
    "localhost.:8000",
    "[::1]:8000",
    "[::1]",
    "192.0.2.7:8000",
    "emulator.internal:8000",
]
OTHER_HOSTS = [
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1@evil.example",
    "evil.example:127.0.0.1",
    "[evil.example]:8000",
    "[::1].evil.example",
    "0x7f000001.example",
    "emulator.internal.evil.example",
    "",
    ":8000",
    "localhost:8000, evil.example",
]


def welcome(*headers: tuple[str, str], control: bool = True) -> bool:
    given = [(name.encode(), value.encode()) for name, value in headers]
    return is_welcome(given, names={"emulator.internal"}, control=control)


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_its_own_names_are_taken(host: str) -> None:
    assert welcome(("host", host))
    assert welcome(("host", host), ("origin", f"http://{host}"))
    assert welcome(("host", host), ("origin", f"HTTPS://{host}"), control=False)
    assert not welcome(("host", host), ("origin", "http://evil.example"))
    assert not welcome(("host", host), ("origin", "http://evil.example"), control=False)


@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_the_names_of_others_are_not(host: str) -> None:
    assert not welcome(("host", host))
    assert not welcome(("host", host), ("origin", f"http://{host}"))
    assert not welcome(("host", host), ("origin", f"http://{host}"), control=False), (
        "a page with a name that points here"
    )
    assert welcome(("host", host), control=False), "a program that knows the emulator under another name"


@pytest.mark.parametrize(
    "origin", ["null", "", "http://127.0.0.1:3000", "http://localhost:8000.evil.example", "file://"]
)
def test_other_pages_of_this_machine_are_others(origin: str) -> None:
    assert not welcome(("host", "127.0.0.1:8000"), ("origin", origin))


def test_one_host_and_no_doubt() -> None:
    assert not welcome()
    assert not welcome(("host", "localhost"), ("host", "evil.example"))
    own = ("host", "localhost"), ("origin", "http://localhost")
    assert welcome(*own)
    assert not welcome(*own, ("origin", "http://evil.example"))


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/_emulator/stats"), ("POST", "/_emulator/reset"), ("POST", "/v1/messages")],
)
def test_a_page_neither_reads_nor_spoils_the_counters(method: str, path: str, emulator: Emulator, ask: Any) -> None:
    ask(emulator, {"model": "x"})
    port = int(emulator.url.rpartition(":")[2])
    for headers in (
        {"Origin": "https://evil.example"},
        {"Host": f"evil.example:{port}", "Origin": "http://evil.example"},
    ):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        assert answer.status == 403
        assert b"calls" not in answer.read()
        connection.close()
    assert emulator.calls == 1
