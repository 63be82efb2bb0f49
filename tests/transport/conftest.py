"""What tests of both transports need."""

import ssl
from pathlib import Path

import pytest

from lm_deluge.testing._transport_checks import post as build
from lm_deluge.testing._transport_peer import CERTIFICATES, server_tls
from lm_deluge.testing._transport_peer import serve as listen
from lm_deluge.transport import AiohttpTransport, AsyncioTransport


@pytest.fixture(params=[AsyncioTransport, AiohttpTransport], ids=["asyncio", "aiohttp"])
def each_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a module calls ``Transport`` is one of them after the other: they have to behave alike."""
    monkeypatch.setattr(request.module, "Transport", request.param)


@pytest.fixture
def serve():
    """``async with serve(handler, tls=None) as peer``: each connection runs ``handler(connection)``, then closes."""
    return listen


@pytest.fixture
def tls() -> ssl.SSLContext:
    """A server's side of TLS, with a certificate for ``localhost`` that no system trusts."""
    return server_tls()


@pytest.fixture
def certs() -> Path:
    return CERTIFICATES


@pytest.fixture
def post():
    """Build a request that holds ``SECRET`` in every place where a credential or a prompt can be."""
    return build


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
