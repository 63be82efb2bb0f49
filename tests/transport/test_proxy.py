"""Proxies: those of the environment, one given, and none."""

import asyncio
import base64

import pytest

from lm_deluge.errors import ConnectError, TransportError
from lm_deluge.transport import AsyncioTransport as Transport

pytestmark = pytest.mark.usefixtures("each_transport")


async def origin(connection):
    await connection.request()
    await connection.reply(b"direct")


def proxy_into(seen, *, refuse=False):
    """A proxy that forwards CONNECT tunnels and answers plain requests itself."""

    async def handler(connection):
        request = await connection.request()
        seen.append(request)
        if refuse:
            await connection.reply(b"who are you", status="407 Proxy Authentication Required")
        elif not request.line.startswith("CONNECT"):
            await connection.reply(b"proxied")
        else:
            host, _, port = request.line.split()[1].partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            await connection.write(b"HTTP/1.1 200 Connected\r\n\r\n")

            async def pump(source, sink):
                while data := await source.read(65536):
                    sink.write(data)
                sink.close()

            try:
                await asyncio.gather(pump(connection.reader, writer), pump(reader, connection.writer))
            finally:
                writer.close()

    return handler


def fetch(serve, post, seen, *, tls=None, refuse=False, environ=None, settings=None):
    """Send one request with a proxy listening; ``{proxy}`` in a setting stands for its host and port."""

    async def main():
        async with serve(proxy_into(seen, refuse=refuse)) as proxy, serve(origin, tls=tls) as peer:
            with pytest.MonkeyPatch.context() as patch:
                for name, value in (environ or {}).items():
                    patch.setenv(name, value.replace("{proxy}", f"127.0.0.1:{proxy.port}"))
                given = dict(settings or {})
                if "proxy" in given:
                    given["proxy"] = given["proxy"].replace("{proxy}", f"127.0.0.1:{proxy.port}")
                transport = Transport(**given)
                try:
                    return await transport.send(post(peer.url), timeout=60)
                finally:
                    await transport.aclose()

    return asyncio.run(main())


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_plain_http_goes_through_the_proxy_of_the_environment(serve, post, name):
    seen = []
    assert fetch(serve, post, seen, environ={name: "http://{proxy}"}).body == b"proxied"
    assert seen[0].line.startswith("POST http://127.0.0.1:")


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_https_goes_through_a_tunnel_and_the_proxy_sees_no_header_of_it(serve, post, tls, certs, name):
    seen = []
    answer = fetch(serve, post, seen, tls=tls, environ={name: "http://{proxy}"}, settings={"ca_file": certs / "ca.pem"})
    assert answer.body == b"direct"
    assert [request.line.split()[0] for request in seen] == ["CONNECT"]
    assert "SECRET" not in repr(seen)


def test_tls_is_verified_through_a_proxy_too(serve, post, tls):
    with pytest.raises(ConnectError, match="certificate"):
        fetch(serve, post, [], tls=tls, environ={"HTTPS_PROXY": "http://{proxy}"})


@pytest.mark.parametrize("excluded", ["127.0.0.1", "*", "example.com,127.0.0.0/8"])
def test_no_proxy_is_respected(serve, post, excluded):
    seen = []
    environ = {"HTTP_PROXY": "http://{proxy}", "NO_PROXY": excluded}
    assert fetch(serve, post, seen, environ=environ).body == b"direct"
    assert seen == []


def test_trust_env_false_leaves_the_environment_unread(serve, post):
    environ = {"HTTP_PROXY": "http://{proxy}"}
    assert fetch(serve, post, [], environ=environ, settings={"trust_env": False}).body == b"direct"


def test_a_given_proxy_has_precedence_and_gets_its_credentials(serve, post):
    seen = []
    environ = {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "*"}
    settings = {"proxy": "http://user:pass%20word@{proxy}"}
    assert fetch(serve, post, seen, environ=environ, settings=settings).body == b"proxied"
    assert seen[0].headers["proxy-authorization"] == "Basic " + base64.b64encode(b"user:pass word").decode()


def test_a_tunnel_that_is_refused_is_a_failure_to_connect(serve, post, tls):
    with pytest.raises(ConnectError, match="proxy") as caught:
        fetch(serve, post, [], tls=tls, refuse=True, settings={"proxy": "http://user:SECRET@{proxy}"})
    assert "SECRET" not in str(caught.value)


def test_a_proxy_that_is_not_there_is_a_failure_to_connect(serve, post):
    with pytest.raises(TransportError, match="proxy settings") as caught:
        fetch(serve, post, [], settings={"proxy": "http://user:SECRET@127.0.0.1:1"})
    assert type(caught.value) is ConnectError
    assert "SECRET" not in str(caught.value)


def test_repr_shows_no_credential_of_the_proxy():
    shown = repr(Transport(proxy="http://user:SECRET@proxy.example:3128"))
    assert "SECRET" not in shown
    assert "user" not in shown
    assert "proxy.example" in shown
