"""TLS is verified by default, and by what the user says is trusted."""

import asyncio

import pytest

from lm_deluge.errors import ConnectError
from lm_deluge.transport import AsyncioTransport as Transport

pytestmark = pytest.mark.usefixtures("each_transport")


async def handler(connection):
    await connection.request()
    await connection.reply(b"safe")


def fetch(serve, post, tls, *, host="localhost", **settings):
    async def main():
        transport = Transport(**settings)
        async with serve(handler, tls=tls) as peer:
            try:
                return await transport.send(post(f"https://{host}:{peer.port}"), timeout=60)
            finally:
                await transport.aclose()

    return asyncio.run(main())


def test_a_certificate_of_an_unknown_authority_is_refused_and_the_remedy_named(serve, post, tls):
    with pytest.raises(ConnectError, match=r"localhost:\d+.*certificate.*SSL_CERT_FILE or as ca_file") as caught:
        fetch(serve, post, tls)
    assert "SECRET" not in str(caught.value)


def test_another_authority_does_not_help(serve, post, tls, certs):
    with pytest.raises(ConnectError, match="certificate"):
        fetch(serve, post, tls, ca_file=certs / "other-ca.pem")


def test_ca_file_is_trusted(serve, post, tls, certs):
    assert fetch(serve, post, tls, ca_file=certs / "ca.pem").body == b"safe"


def test_every_certificate_of_a_bundle_is_trusted(serve, post, tls, certs, tmp_path):
    bundle = tmp_path / "bundle.pem"
    texts = [(certs / name).read_text() for name in ("other-ca.pem", "ca.pem")]
    bundle.write_text("# the company's\n" + "# and the team's\n".join(texts))
    assert fetch(serve, post, tls, ca_file=str(bundle)).body == b"safe"


def test_ssl_cert_file_is_trusted(serve, post, tls, certs, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certs / "ca.pem"))
    assert fetch(serve, post, tls).body == b"safe"


def test_the_host_name_is_checked(serve, post, tls, certs):
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1:\d+.*certificate is for another host"):
        fetch(serve, post, tls, host="127.0.0.1", ca_file=certs / "ca.pem")


def test_a_port_that_speaks_no_tls(serve, post):
    async def plain(connection):
        await connection.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async def main():
        async with serve(plain) as peer:
            with pytest.raises(ConnectError):
                await Transport().send(post(f"https://127.0.0.1:{peer.port}"), timeout=60)

    asyncio.run(main())
