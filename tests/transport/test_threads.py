"""Names and certificates are looked up in threads, of which a process may have too many for a while."""

import asyncio
import threading

import pytest

from lm_deluge.errors import ConnectError
from lm_deluge.transport import AsyncioTransport


@pytest.mark.parametrize("started", [0, 1], ids=["for the name", "for the certificates"])
def test_a_thread_that_cannot_be_started_is_no_connection_this_time(started, monkeypatch, serve, post, tls, certs):
    start, left = threading.Thread.start, [True] * started

    def limited(thread: threading.Thread) -> None:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    async def handler(connection):
        await connection.request()
        await connection.reply(b"ok")

    async def main() -> None:
        transport = AsyncioTransport(ca_file=certs / "ca.pem")
        async with serve(handler, tls=tls) as peer:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", limited)
                with pytest.raises(ConnectError, match="temporarily unavailable"):
                    await transport.send(post(peer.url), timeout=20)
            assert (await transport.send(post(peer.url), timeout=20)).body == b"ok"
            await transport.aclose()

    asyncio.run(main())
