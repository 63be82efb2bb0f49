"""What the engine asks of an HTTP client."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from lm_deluge.wire import HttpRequest, HttpResponse

__all__ = ["StreamedResponse", "Transport"]


class StreamedResponse(msgspec.Struct, frozen=True, kw_only=True):
    """An answer whose body is still arriving.

    Attributes:
        status: the HTTP status code.
        headers: names in lower case; of a repeated header the last value counts.
        chunks: the decoded body in pieces, as they arrive. It can be read once. It raises
            :class:`~lm_deluge.errors.RequestTimeout`, :class:`~lm_deluge.errors.ConnectionDropped` or
            :class:`~lm_deluge.errors.TransportError`.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]

    async def read(self) -> bytes:
        """The rest of the body at once: an error message, for example."""
        return b"".join([chunk async for chunk in self.chunks])


class Transport(Protocol):
    """An HTTP client.

    Every HTTP status is an answer, also 4xx, 5xx and redirects, which are returned and not followed. Exceptions
    are for requests that got no complete answer; all are :class:`~lm_deluge.errors.TransportError`.
    """

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:  # noqa: ASYNC109 (a limit for native code)
        """Send a request and read the answer to its end.

        Args:
            request: what to send.
            timeout: seconds for the whole exchange, from connecting to the last byte; an hour at most.

        A task that is cancelled after the last byte has come is given the answer all the same.

        Raises:
            ConnectError: no connection could be made, so the request did not reach the server.
            RequestTimeout: ``timeout`` seconds passed before the answer was complete.
            ConnectionDropped: the server closed the connection before the answer was complete.
            TransportError: what arrived is not valid HTTP, or is larger than allowed.
            ConfigError: the URL or a header cannot be sent.
        """
        ...

    def stream(self, request: HttpRequest, *, timeout: float) -> AbstractAsyncContextManager[StreamedResponse]:
        """Send a request and hand over its answer while it arrives. Leaving the context frees the connection.

        Args:
            request: what to send.
            timeout: seconds of silence allowed: until the headers, and then before each chunk. A stream lasts an hour
                at most.

        Raises:
            TransportError: as for :meth:`send`.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections. Requests in flight fail; a later request opens new connections."""
        ...
