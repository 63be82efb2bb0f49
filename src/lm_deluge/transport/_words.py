"""What the transports say when an exchange fails: one place, and no text of a request in any message.

A URL can hold a key in its query, and headers hold one always. So a message names the host and port, and nothing else
of a request.
"""

import errno
import os
import socket
import ssl

from lm_deluge.errors import ConnectError, ConnectionDropped, RequestTimeout, TransportError

__all__ = [
    "dropped",
    "no_connection",
    "not_http",
    "silent",
    "too_large",
    "transport_closed",
    "unfinished",
]

# LibreSSL, OpenSSL 1.1 and 3: the code of X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_FOR_ANOTHER_HOST = frozenset({62, 64})


def no_connection(host: str, error: BaseException | str, *, through_proxy: bool = False) -> ConnectError:
    """Nothing could be sent, for ``error``: what the system said, or words."""
    reason = error if isinstance(error, str) else _reason(error)
    return ConnectError(f"No connection to {host}: {reason}. {_remedy(error, through_proxy=through_proxy)}")


def dropped(host: str, error: BaseException | str | None) -> ConnectionDropped:
    """The other side closed the connection too early."""
    how = "end of file" if error is None else error if isinstance(error, str) else _reason(error)
    return ConnectionDropped(f"{host} closed the connection before its answer was complete ({how}). Try again.")


def unfinished(host: str, limit: float) -> RequestTimeout:
    """The time for a whole exchange is over."""
    return RequestTimeout(
        f"{host} did not complete its answer within {limit:g} s. Allow more time, or ask for a shorter answer."
    )


def silent(host: str, limit: float) -> RequestTimeout:
    """Nothing more of a streamed answer came."""
    return RequestTimeout(f"{host} sent nothing for {limit:g} s. Allow more time, or try again.")


def not_http(host: str, reason: str) -> TransportError:
    """What arrived is no HTTP answer."""
    return TransportError(f"The answer of {host} is not valid HTTP: {reason}. A proxy or a wrong base URL can be why.")


def too_large(host: str, limit: int) -> TransportError:
    """A body above what is read."""
    return TransportError(
        f"{host} sent a body above max_body_bytes ({limit} bytes), so it was not read on. Ask for a shorter answer, or "
        "raise max_body_bytes."
    )


def transport_closed(host: str) -> TransportError:
    """``aclose()`` while a request was in flight."""
    return TransportError(f"The transport was closed while a request to {host} was in flight. Send it again.")


def _reason(error: BaseException) -> str:
    """What the system says, without the addresses and paths of this machine."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'handshake failed').replace('_', ' ').lower()}"
    if isinstance(error, socket.gaierror):
        return "its name could not be resolved to an address" + (f" ({error.strerror})" if error.strerror else "")
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    if isinstance(error, ConnectionResetError):
        return os.strerror(errno.ECONNRESET).lower()
    return str(error).rstrip(".") or type(error).__name__


def _remedy(error: BaseException | str, *, through_proxy: bool) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _FOR_ANOTHER_HOST:
            return "The certificate is for another host: check the host name in the base URL."
        return (
            "If the server's certificate is signed by your own authority, name its file in SSL_CERT_FILE or as "
            "ca_file. On a system without any authorities, install its package ca-certificates."
        )
    if isinstance(error, socket.gaierror) and not through_proxy:
        return "Check the host name in the base URL, and the network."
    return "Check the base URL, the network and the proxy settings."
