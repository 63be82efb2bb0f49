"""What providers check of images and files: that base64 decodes, that the bytes are what they claim, that URLs work."""

import asyncio
import binascii
import ipaddress
import re
from urllib.parse import urlsplit

__all__ = ["IMAGE_TYPES", "decode_base64", "fetch_loopback", "sniff", "url_problem"]

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)
_FETCH_SECONDS = 2.0
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")


def decode_base64(data: str) -> bytes | None:
    """The bytes of a base64 text; None when it is empty, has foreign characters, line breaks or wrong padding."""
    if not data or _NOT_BASE64.search(data):
        return None
    try:
        return binascii.a2b_base64(data, strict_mode=True) or None
    except binascii.Error:
        return None


def sniff(data: bytes) -> str | None:
    """The media type that the first bytes show: one of ``IMAGE_TYPES``, PDF, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)


def url_problem(url: str) -> str | None:
    """What can be told about a URL without a network: its scheme, its host, and hosts that cannot exist (RFC 2606)."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        parts.port  # noqa: B018  (reading it checks it)
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https"):
        return "only http and https URLs are supported"
    if not host:
        return "the URL has no host"
    if host == "invalid" or host.endswith(".invalid"):
        return "the host cannot be resolved"
    return None


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def fetch_loopback(url: str) -> str | None:
    """Download a loopback URL as a provider would. URLs elsewhere are taken on trust: nothing leaves the machine.

    Returns:
        None when it was fetched (or not tried), otherwise what went wrong. Redirects count as failures.
    """
    return await asyncio.to_thread(_get, url) if is_loopback(url) else None


def _get(url: str) -> str | None:
    import http.client

    parts = urlsplit(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=_FETCH_SECONDS)
    try:
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__} while downloading"
    finally:
        connection.close()
    return None if response.status == 200 else f"the server answered {response.status}"
