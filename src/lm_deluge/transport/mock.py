"""A transport that answers from a function, so that code over a transport is tested without a network."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from lm_deluge.transport._protocol import StreamedResponse
from lm_deluge.wire import HttpRequest, HttpResponse

__all__ = ["MockTransport"]


class MockTransport:
    """Answers each request with ``handler(request)``; no socket is opened.

    Args:
        handler: returns the answer, directly or as an awaitable. An exception it raises reaches the caller, so a
            handler simulates a failure by raising :class:`~lm_deluge.errors.ConnectionDropped`, for example.

    Attributes:
        requests: every request in the order of arrival.
    """

    def __init__(self, handler: Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]) -> None:
        self._handler = handler
        self.requests: list[HttpRequest] = []

    def __repr__(self) -> str:
        return f"MockTransport({self._handler!r})"

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:  # noqa: ASYNC109
        """The handler's answer. ``timeout`` has no effect."""
        self.requests.append(request)
        answer = self._handler(request)
        if inspect.isawaitable(answer):
            answer = await answer
        return answer

    @asynccontextmanager
    async def stream(self, request: HttpRequest, *, timeout: float) -> AsyncIterator[StreamedResponse]:  # noqa: ASYNC109
        """The handler's answer, its body in one chunk. ``timeout`` has no effect."""
        answer = await self.send(request, timeout=timeout)

        async def chunks() -> AsyncIterator[bytes]:
            if answer.body:
                yield answer.body

        yield StreamedResponse(status=answer.status, headers=answer.headers, chunks=chunks())

    async def aclose(self) -> None:
        """Nothing to close."""
