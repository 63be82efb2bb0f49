"""pyreqwest's exceptions as ours: one place, and no text of the request in any message.

pyreqwest's own messages hold the URL with its query, where some providers take the key. So its exceptions are neither
quoted whole nor chained.
"""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lm_deluge.errors import ConfigError, ConnectError, ConnectionDropped, LMDelugeError, RequestTimeout, TransportError
from lm_deluge.wire import HttpRequest

if TYPE_CHECKING:
    from pyreqwest.exceptions import PyreqwestError

__all__ = ["failure", "host_of", "refused_request"]

# The chain of causes is text and the only place that tells these apart: a server that accepted and then said nothing
# is reported as a *connect* timeout, and a connection closed before the status line as a *connect* error.
_CONNECT_PHASE = "client error (Connect)"
_CLOSED = (
    "connection closed before message completed",
    "end of file before message length reached",
    "unexpected EOF",
    "connection reset",
    "broken pipe",
    "connection error: not connected",
    "unexpected end of file",
)


def failure(error: "PyreqwestError", request: HttpRequest, *, timeout: float) -> LMDelugeError:
    """What ``error`` means for the caller of the transport."""
    from pyreqwest.exceptions import BuilderError, ClientClosedError, NetworkError, RequestTimeoutError

    host = host_of(request)
    causes = _causes(error)
    reason = _reason(causes)
    if _CONNECT_PHASE in causes:
        return ConnectError(f"No connection to {host}: {reason}. {_remedy(reason)}")
    if isinstance(error, RequestTimeoutError):
        return RequestTimeout(
            f"{host} did not complete its answer within {timeout:g} s. Allow more time, or ask for a shorter answer."
        )
    if isinstance(error, ClientClosedError):
        return TransportError(f"The transport was closed while a request to {host} was under way. Send it again.")
    if isinstance(error, BuilderError):
        return ConfigError(f"The request to {host} cannot be sent: {reason}. Check the base URL.")
    lowered = " ".join(causes).lower()
    if isinstance(error, NetworkError) or any(sign.lower() in lowered for sign in _CLOSED):
        return ConnectionDropped(f"{host} closed the connection before its answer was complete ({reason}). Try again.")
    return TransportError(f"The answer of {host} is not valid HTTP: {reason}. A proxy or a wrong base URL can be why.")


def refused_request(request: HttpRequest) -> ConfigError:
    """Why a request could not even be built: its URL, or the header that HTTP does not allow (by name alone)."""
    for name, value in request.headers.items():
        if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
            return ConfigError(f"{name!r} is not a header name. Correct the extra headers given.")
        if any((character < " " and character != "\t") or character == "\x7f" for character in value):
            return ConfigError(
                f"The header {name!r} for {host_of(request)} holds a line break or another control character. An API "
                "key copied with its line end is the usual cause."
            )
    return ConfigError(
        f"The URL of {host_of(request)} cannot be requested. A base URL starts with https:// or http://."
    )


def host_of(request: HttpRequest) -> str:
    """The host and port of a request: all of its URL that a message may show."""
    try:
        return urlsplit(request.url).netloc.rpartition("@")[2] or "an address without a host"
    except ValueError:
        return "an invalid address"


def _causes(error: "PyreqwestError") -> list[str]:
    """The messages under ``error`` from the outside in, without those that quote a URL."""
    details = getattr(error, "details", None) or {}
    return [str(cause["message"]) for cause in details.get("causes") or () if "://" not in str(cause["message"])]


def _reason(causes: list[str]) -> str:
    return causes[-1].rstrip(".") if causes else "no reason was given"


def _remedy(reason: str) -> str:
    lowered = reason.lower()
    if "not valid for name" in lowered:
        return "The certificate is for another host: check the host name in the base URL."
    if "certificate" in lowered:
        return "If the server's certificate is signed by your own authority, pass ca_file= or set SSL_CERT_FILE."
    if "lookup" in lowered or "resolve" in lowered or "name or service" in lowered:
        return "Check the host name in the base URL, and the network."
    return "Check the base URL, the network and the proxy settings."
