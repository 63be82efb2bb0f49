"""HTTP as values: what a provider's module returns and what it is given back. No I/O."""

from collections.abc import Mapping

import msgspec

__all__ = ["HttpRequest", "HttpResponse"]

_SECRET_HEADERS = frozenset(
    {"authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "proxy-authorization"}
)


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request, ready to be sent.

    Attributes:
        method: ``"GET"`` or ``"POST"``.
        url: absolute, with its query.
        headers: names in lower case. They hold the credential, which is why ``repr`` leaves their values out.
        body: the encoded body; empty for none.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""

    def __repr__(self) -> str:
        shown = {name: "***" if is_secret_header(name) else value for name, value in self.headers.items()}
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


def is_secret_header(name: str) -> bool:
    """Whether a header's value must not be shown. Unknown names that look like a credential count as one."""
    lowered = name.lower()
    return lowered in _SECRET_HEADERS or any(word in lowered for word in ("token", "secret", "key", "auth"))
