"""HTTP as values: what a provider's module returns and what it is given back. No I/O."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from lm_deluge._secrets import MASK, says_what_is_asked

__all__ = ["HttpRequest", "HttpResponse", "host_of"]


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request, ready to be sent.

    Attributes:
        method: ``"GET"`` or ``"POST"``.
        url: absolute, with its query.
        headers: names in lower case. They hold the credential, so ``repr`` shows only values that are known to say what
            is asked.
        body: the encoded body; empty for none.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""

    def __repr__(self) -> str:
        shown = {name: value if says_what_is_asked(name) else MASK for name, value in self.headers.items()}
        url = self.url.partition("?")[0]  # some providers take the key in the query
        return f"HttpRequest({self.method} {url}, headers={shown}, body={len(self.body)} bytes)"


class HttpResponse(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, read to its end.

    Attributes:
        status: the HTTP status code.
        headers: names in lower case; of a repeated header the last value counts.
        body: the decoded body (any content encoding undone).
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def host_of(request: HttpRequest) -> str:
    """The host and port of a request: all of its URL that a message may show."""
    try:
        return urlsplit(request.url).netloc.rpartition("@")[2] or "an address without a host"
    except ValueError:
        return "an invalid address"
