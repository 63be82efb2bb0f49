"""When certificates are read."""

import asyncio
import ssl
import threading

import pytest

from lm_deluge.transport import AsyncioTransport as Transport

pytestmark = pytest.mark.usefixtures("each_transport")


async def patient(connection):
    """Answer any number of requests on one connection."""
    while True:
        await connection.request()
        await connection.reply(b"ok")


def test_certificates_are_read_once_and_off_the_event_loop(serve, post, tls, certs, monkeypatch):
    readers = []

    def create(*arguments, **settings):
        readers.append(threading.current_thread())
        return real(*arguments, **settings)

    real = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", create)

    async def main():
        transport = Transport(ca_file=certs / "ca.pem")
        async with serve(patient, tls=tls) as peer:
            await asyncio.gather(*(transport.send(post(peer.url), timeout=60) for _ in range(20)))
            await transport.aclose()

    asyncio.run(main())
    assert len(readers) == 1
    assert readers[0] is not threading.main_thread()
