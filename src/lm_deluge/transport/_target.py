"""Where a request goes, and the bytes that say so on the wire (RFC 9110 and 9112)."""

import functools
import re
from base64 import b64encode
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from lm_deluge._version import __version__
from lm_deluge.errors import ConfigError
from lm_deluge.wire import HttpRequest, host_of

__all__ = ["OURS", "Origin", "Target", "checked_target", "encode", "ended", "target_of"]

_PORTS = {"http": 80, "https": 443}
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")

OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})
"""The headers that a transport decides. Given ones could make the server see another request than was meant."""

_DEFAULTS = f"accept-encoding: gzip\r\nuser-agent: lm_deluge/{__version__}\r\n"
_DEFAULTS_BESIDE_AGENT = "accept-encoding: gzip\r\n"


class Origin(NamedTuple):
    """A server. Its label is what messages call it."""

    scheme: str
    host: str
    port: int
    label: str


class Target(NamedTuple):
    """What a URL says: whom to ask, and for what.

    Attributes:
        origin: the server.
        path: with the query, percent-encoded.
        authority: the value of the ``host`` header.
        authorization: from the user and password in the URL, or None.
    """

    origin: Origin
    path: str
    authority: str
    authorization: str | None


@functools.lru_cache(maxsize=64)
def target_of(url: str) -> Target:
    """Read a URL.

    Raises:
        ValueError: it is none, or its scheme is not HTTP's.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("not an HTTP URL")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    label = parts.netloc.rpartition("@")[2]
    shown = f"[{host}]" if ":" in host else host
    if not _TOKEN.fullmatch(host.replace(":", "")):
        raise ValueError("not a host name")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    if parts.query:
        path += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?[]")
    return Target(
        origin=Origin(parts.scheme, host, port, label),
        path=path,
        authority=shown if port == _PORTS[parts.scheme] else f"{shown}:{port}",
        authorization=None if parts.username is None else _basic(parts.username, parts.password),
    )


def checked_target(request: HttpRequest) -> Target:
    """Where a request goes that can be sent.

    Raises:
        ConfigError: its URL cannot be requested, or a name or a value cannot stand in a header. No value is quoted.
    """
    for name, value in request.headers.items():
        if not _is_name(name):
            raise ConfigError(f"{name!r} is not a header name. Correct the extra headers given.")
        if _UNSENDABLE.search(value):
            raise ConfigError(
                f"The header {name!r} for {host_of(request)} holds a line break or another control character. An API "
                "key copied with its line end is the usual cause."
            )
    try:
        return target_of(request.url)
    except ValueError:
        pass  # it may quote the URL, and with it a key
    raise ConfigError(f"The URL of {host_of(request)} cannot be requested. A base URL starts with https:// or http://.")


def _basic(user: str, password: str | None) -> str:
    """Basic authorization from the parts of a URL, which are percent-encoded."""
    return "Basic " + b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()


def encode(request: HttpRequest, target: Target, *, to_proxy: str | None) -> bytes:
    """The request line and the headers, up to the length of the body, which :func:`ended` adds.

    Args:
        request: what to send.
        target: its URL, checked.
        to_proxy: the lines for a proxy that forwards a plain request; None sends to the server.
    """
    path = target.path if to_proxy is None else f"http://{target.authority}{target.path}"
    lines = [f"{request.method} {path} HTTP/1.1\r\nhost: {target.authority}\r\n"]
    headers = request.headers
    lines += [f"{name}: {value}\r\n" for name, value in headers.items() if name.lower() not in OURS]
    if target.authorization is not None and "authorization" not in headers:
        lines.append(f"authorization: {target.authorization}\r\n")
    lines += [_DEFAULTS_BESIDE_AGENT if "user-agent" in headers else _DEFAULTS, to_proxy or ""]
    return "".join(lines).encode()


def ended(head: bytes, request: HttpRequest) -> bytes:
    """All of the head."""
    if request.body or request.method != "GET":
        return b"%bcontent-length: %d\r\n\r\n" % (head, len(request.body))
    return head + b"\r\n"


@functools.lru_cache(maxsize=1024)
def _is_name(name: str) -> bool:
    return _TOKEN.fullmatch(name) is not None
