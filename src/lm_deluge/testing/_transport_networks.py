"""Checks of TLS, which is verified always, and of proxies: those of the environment, one given, and none."""

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Any

import pytest

from lm_deluge.errors import ConnectError
from lm_deluge.testing._expect import expect
from lm_deluge.testing._transport_checks import Checks, caught, in_loop, post, replying
from lm_deluge.testing._transport_peer import CERTIFICATES, Connection, Handler, Received, serve, server_tls

__all__ = ["NetworkChecks"]

_CA = str(CERTIFICATES / "ca.pem")
# Not written where they are used, as a traceback shows those lines.
_REFUSING = "http://user:SECRET@{proxy}"
_ABSENT = "http://user:SECRET@127.0.0.1:1"


_server = replying(b"direct")


def _proxy(seen: list[Received], *, refuse: bool) -> Handler:
    """A proxy that opens tunnels and answers plain requests itself."""

    async def handler(connection: Connection) -> None:
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

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    sink.write(data)
                sink.close()

            try:
                await asyncio.gather(pump(connection.reader, writer), pump(reader, connection.writer))
            finally:
                writer.close()

    return handler


class NetworkChecks(Checks):
    """What is trusted, and which way a request takes."""

    def test_a_certificate_of_an_unknown_authority_is_refused(self) -> None:
        with caught(ConnectError) as errors:
            self._fetch_safely()
        self.says(errors[0], r"localhost:\d+.*certificate.*SSL_CERT_FILE or as ca_file")

    def test_another_authority_does_not_help(self) -> None:
        with caught(ConnectError) as errors:
            self._fetch_safely(ca_file=str(CERTIFICATES / "other-ca.pem"))
        self.says(errors[0], "certificate")

    def test_ca_file_is_trusted(self) -> None:
        expect(self._fetch_safely(ca_file=_CA), b"direct", "an answer over TLS")

    def test_every_certificate_of_a_bundle_is_trusted(self, tmp_path: Path) -> None:
        bundle = tmp_path / "bundle.pem"
        texts = [(CERTIFICATES / name).read_text() for name in ("other-ca.pem", "ca.pem")]
        bundle.write_text("# the company's\n" + "# and the team's\n".join(texts))
        expect(self._fetch_safely(ca_file=str(bundle)), b"direct", "an answer over TLS")

    def test_ssl_cert_file_is_trusted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.needs("ca_file")
        monkeypatch.setenv("SSL_CERT_FILE", _CA)
        expect(self._fetch_safely(), b"direct", "an answer over TLS")

    def test_the_host_name_is_checked(self) -> None:
        with caught(ConnectError) as errors:
            self._fetch_safely(host="127.0.0.1", ca_file=_CA)
        self.says(errors[0], r"127\.0\.0\.1:\d+.*certificate is for another host")

    @in_loop
    async def test_a_port_that_speaks_no_tls(self) -> None:
        async def plain(connection: Connection) -> None:
            await connection.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

        async with self.facing(plain) as (transport, url):
            with caught(ConnectError):
                await transport.send(post(url.replace("http:", "https:")), timeout=60)

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
    def test_plain_http_goes_through_the_proxy_of_the_environment(self, name: str) -> None:
        seen: list[Received] = []
        expect(self._fetch(seen, environ={name: "http://{proxy}"}), b"proxied", "an answer through a proxy")
        expect(seen[0].line.startswith("POST http://127.0.0.1:"), True, "whether the proxy was asked as one is")

    @pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
    def test_https_goes_through_a_tunnel_and_the_proxy_sees_no_header_of_it(self, name: str) -> None:
        seen: list[Received] = []
        answer = self._fetch(seen, tls=server_tls(), environ={name: "http://{proxy}"}, ca_file=_CA)
        expect(answer, b"direct", "an answer through a tunnel")
        expect([request.line.split()[0] for request in seen], ["CONNECT"], "what the proxy was asked")
        expect("SECRET" in repr(seen), False, "whether the proxy saw anything of the request")

    def test_tls_is_verified_through_a_proxy_too(self) -> None:
        with caught(ConnectError) as errors:
            self._fetch([], tls=server_tls(), environ={"HTTPS_PROXY": "http://{proxy}"})
        self.says(errors[0], "certificate")

    @pytest.mark.parametrize("excluded", ["127.0.0.1", "*", "example.com,127.0.0.0/8"])
    def test_no_proxy_is_respected(self, excluded: str) -> None:
        seen: list[Received] = []
        answer = self._fetch(seen, environ={"HTTP_PROXY": "http://{proxy}", "NO_PROXY": excluded})
        expect(answer, b"direct", f"an answer with NO_PROXY={excluded}")
        expect(seen, [], "what the proxy was asked")

    def test_trust_env_false_leaves_the_environment_unread(self) -> None:
        answer = self._fetch([], environ={"HTTP_PROXY": "http://{proxy}"}, trust_env=False)
        expect(answer, b"direct", "an answer with trust_env=False")

    def test_a_given_proxy_has_precedence_and_gets_its_credentials(self) -> None:
        seen: list[Received] = []
        environ = {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "*"}
        answer = self._fetch(seen, environ=environ, proxy="http://user:pass%20word@{proxy}")
        expect(answer, b"proxied", "an answer through a proxy that was given")
        wanted = "Basic " + base64.b64encode(b"user:pass word").decode()
        expect(seen[0].headers.get("proxy-authorization"), wanted, "the proxy's credentials")

    def test_a_tunnel_that_is_refused_is_a_failure_to_connect(self) -> None:
        with caught(ConnectError) as errors:
            self._fetch([], tls=server_tls(), refuse=True, proxy=_REFUSING)
        self.says(errors[0], "proxy")

    def test_a_proxy_that_is_not_there_is_a_failure_to_connect(self) -> None:
        with caught(ConnectError) as errors:
            self._fetch([], proxy=_ABSENT)
        expect(type(errors[0]), ConnectError, "the exception")
        self.says(errors[0], "proxy settings")

    def test_repr_shows_no_credential_of_the_proxy(self) -> None:
        shown = repr(self.made(proxy="http://user:SECRET@proxy.example:3128"))
        expect("SECRET" in shown or "user" in shown, False, "whether its repr shows a credential")

    def _fetch_safely(self, *, host: str = "localhost", **settings: Any) -> bytes:
        """The answer of a server with TLS."""

        async def main() -> bytes:
            async with self.facing(_server, tls=server_tls(), **settings) as (transport, url):
                return (await transport.send(post(url.replace("localhost", host)), timeout=60)).body

        return self.run(main())

    def _fetch(
        self,
        seen: list[Received],
        *,
        tls: ssl.SSLContext | None = None,
        refuse: bool = False,
        environ: dict[str, str] | None = None,
        **settings: Any,
    ) -> bytes:
        """The answer to a request while a proxy listens; ``{proxy}`` in a setting stands for its host and port."""
        self.needs(*(["trust_env"] if environ else []), *settings)

        async def main() -> bytes:
            async with serve(_proxy(seen, refuse=refuse)) as proxy:
                here = f"127.0.0.1:{proxy.port}"
                if "proxy" in settings:
                    settings["proxy"] = settings["proxy"].replace("{proxy}", here)
                with pytest.MonkeyPatch.context() as patch:
                    for name, value in (environ or {}).items():
                        patch.setenv(name, value.replace("{proxy}", here))
                    async with self.facing(_server, tls=tls, **settings) as (transport, url):
                        return (await transport.send(post(url), timeout=60)).body

        return self.run(main())
