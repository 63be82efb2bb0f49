"""The shipped conformance suite over both transports, and over broken ones, each of which it must catch."""

import asyncio
import contextlib
import re
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lm_deluge.errors import ConnectError, ConnectionDropped, RequestTimeout
from lm_deluge.testing import TransportConformance
from lm_deluge.transport import AiohttpTransport, AsyncioTransport, Transport
from lm_deluge.wire import HttpRequest, HttpResponse


class Ours(TransportConformance):
    """What ours say is checked too."""

    def says(self, error: BaseException, pattern: str) -> None:
        assert re.search(pattern, str(error)), f"{error} does not say {pattern}"


class TestAsyncio(Ours):
    def make(self, **settings: Any) -> Transport:
        return AsyncioTransport(**settings)


class TestAiohttp(Ours):
    keeps_pieces: ClassVar[bool] = False  # aiohttp forgets what came before a failure

    def make(self, **settings: Any) -> Transport:
        return AiohttpTransport(**settings)


class Talkative(AsyncioTransport):
    """Repeats the URL, in which a key may be."""

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        try:
            return await super().send(request, timeout=timeout)
        except ConnectError as error:
            raise ConnectError(f"{request.url}: {error}") from error


class Builtin(AsyncioTransport):
    """Has an exception of its own for a time limit."""

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        try:
            return await super().send(request, timeout=timeout)
        except RequestTimeout as error:
            raise TimeoutError from error


class Forgetful(AsyncioTransport):
    """Drops what has come when it is cancelled."""

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        response = await super().send(request, timeout=timeout)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        return response


class Stubborn(AsyncioTransport):
    """Goes on with what was given up."""

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        return await asyncio.shield(asyncio.ensure_future(super().send(request, timeout=timeout)))


class Greedy(AsyncioTransport):
    """Reads on above its limit."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "max_body_bytes": 10**9})


class Persistent(AsyncioTransport):
    """Sends again what the server has read."""

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        with contextlib.suppress(ConnectionDropped):
            return await super().send(request, timeout=timeout)
        return await super().send(request, timeout=timeout)


class Trusting(AsyncioTransport):
    """Takes any host's certificate."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        make = self._settings.trust.context

        def context() -> ssl.SSLContext:
            made = make()
            made.check_hostname = False
            return made

        self._settings.trust.context = context  # type: ignore[method-assign]


class Following(AsyncioTransport):
    """Follows redirects, with all headers."""

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        response = await super().send(request, timeout=timeout)
        if "location" in response.headers:
            there = HttpRequest(method="GET", url=response.headers["location"], headers=request.headers)
            await super().send(there, timeout=timeout)
        return response


@pytest.mark.parametrize(
    ("broken", "check", "arguments", "said"),
    [
        (Talkative, "a_refused_connection", (), "repeats what was sent"),
        (Builtin, "the_limit_is_for_the_whole_exchange_and_not_for_each_read", (), "a TransportError was expected"),
        (Forgetful, "an_answer_whose_last_byte_has_come_is_not_lost_to_a_cancellation", (), "CancelledError"),
        (Stubborn, "many_requests_that_are_cancelled_leave_no_descriptor", ("whole",), "descriptors"),
        (Greedy, "a_body_of_exactly_the_limit_is_read", (), "nothing was raised"),
        (Persistent, "a_request_the_server_read_is_never_sent_twice", (), "nothing was raised"),
        (Trusting, "the_host_name_is_checked", (), "nothing was raised"),
        (Following, "a_redirect_is_returned_and_no_credential_goes_to_the_other_host", ("302 Found",), "other host"),
    ],
)
def test_a_broken_transport_is_caught(broken: Any, check: str, arguments: tuple[str, ...], said: str) -> None:
    class Suite(TransportConformance):
        def make(self, **settings: Any) -> Transport:
            transport: Transport = broken(**settings)
            return transport

    with pytest.raises(AssertionError, match=said):
        getattr(Suite(), f"test_{check}")(*arguments)


def test_a_transport_of_somebody_elses(tmp_path: Path) -> None:
    """A test file as the documentation shows it, run by pytest as anybody would."""
    (tmp_path / "test_mine.py").write_text(
        "from lm_deluge.testing import TransportConformance\n"
        "from lm_deluge.transport import AsyncioTransport\n\n\n"
        "class TestMine(TransportConformance):\n"
        "    takes = frozenset({'max_body_bytes'})\n\n"
        "    def make(self, **settings):\n"
        "        return AsyncioTransport(**settings)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "refused or trusted", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"\d\d passed, \d+ skipped", ran.stdout)  # skipped: what needs ca_file or a proxy


def test_a_suite_without_a_transport_says_what_is_missing() -> None:
    with pytest.raises(NotImplementedError, match="TransportConformance needs make"):
        TransportConformance().test_a_get_has_no_body()


def test_without_pytest_only_its_use_fails() -> None:
    check = (
        "import sys; sys.modules['pytest'] = None; import lm_deluge.testing\n"
        "try: lm_deluge.testing.TransportConformance\n"
        "except ImportError as error: assert 'pip install' in str(error), error\n"
        "else: raise AssertionError('imported without pytest')"
    )
    subprocess.run([sys.executable, "-c", check], check=True, env={"PYTHONPATH": ":".join(sys.path)})
