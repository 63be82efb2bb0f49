"""One HTTP exchange: whole, or in pieces where others wait for its beginning."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

import msgspec

from lm_deluge._clock import Clock
from lm_deluge._secrets import Secrets
from lm_deluge.errors import ConnectError, ConnectionDropped, RequestTimeout, TransportError
from lm_deluge.models import Model
from lm_deluge.providers import Failure, StreamReader, as_whole
from lm_deluge.schedule import Admission
from lm_deluge.transport import Transport
from lm_deluge.wire import HttpRequest, HttpResponse, host_of

__all__ = ["Sender", "Unheard"]

_WORTH_ANOTHER_TRY = (ConnectError, ConnectionDropped, RequestTimeout)


class Unheard:
    """In the place of the ticket of a request whose beginning says nothing."""

    def sent(self) -> None:
        """It goes out."""

    def began(self, *, started: float) -> None:
        """Its answer has begun."""

    def failed(self) -> None:
        """It has no answer."""


class Sender:
    """Sends requests and tells their tickets how that went.

    Args:
        timeout: seconds for one call, from connecting to the last byte.
        secrets: what is sent and must not be repeated in an error.
    """

    def __init__(self, transport: Transport, clock: Clock, *, timeout: float, secrets: Secrets) -> None:
        self._transport = transport
        self._clock = clock
        self._timeout = timeout
        self._secrets = secrets

    async def send(
        self,
        model: Model,
        request: HttpRequest,
        ticket: Admission | Unheard,
        arrived: Callable[[HttpResponse], None],
        *,
        stream: bool,
    ) -> Failure | None:
        """Get the provider's response, of whatever status. Returns why there is none.

        Args:
            model: which model is asked.
            request: what to send.
            ticket: told when the answer has begun, or that it will not.
            arrived: called with the response right after its last byte, before anything is awaited.
            stream: whether ``request`` asks for an answer in pieces. It is put together again.
        """
        started = self._clock.monotonic()
        ticket.sent()
        try:
            if stream:
                return await self._stream(model, request, ticket, arrived, started)
            response = await self._transport.send(request, timeout=self._timeout)
        except TransportError as error:
            ticket.failed()
            return Failure(
                status=0, message=self._secrets.hide(str(error)), retryable=isinstance(error, _WORTH_ANOTHER_TRY)
            )
        if response.status == HTTPStatus.OK:
            body = as_whole(model, response.body, secrets=self._secrets)
            if isinstance(body, Failure):
                ticket.failed()
                return body
            if body is not response.body:
                response = msgspec.structs.replace(response, body=body)
        arrived(response)
        if response.status == HTTPStatus.OK and response.body.lstrip()[:1] == b"{":
            ticket.began(started=started)
        else:
            ticket.failed()  # the page of a proxy is no answer, whatever its status
        return None

    async def _stream(
        self,
        model: Model,
        request: HttpRequest,
        ticket: Admission | Unheard,
        arrived: Callable[[HttpResponse], None],
        started: float,
    ) -> Failure | None:
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._transport.stream(request, timeout=self._timeout) as response,
            ):
                if response.status != HTTPStatus.OK:
                    ticket.failed()
                    body = await response.read()
                    arrived(HttpResponse(status=response.status, headers=response.headers, body=body))
                    return None
                reader = StreamReader(model, secrets=self._secrets)
                async for chunk in response.chunks:
                    reader.feed(chunk)
                    if reader.has_begun:  # and not only a comment that keeps the connection open
                        ticket.began(started=started)
                outcome = reader.result()
                if isinstance(outcome, Failure):
                    ticket.failed()
                    return outcome
                arrived(HttpResponse(status=response.status, headers=response.headers, body=reader.body()))
                ticket.began(started=started)  # where it came at once, only now
                return None
        except TimeoutError as error:
            if isinstance(error, TransportError):
                raise
            raise RequestTimeout(
                f"{host_of(request)} did not complete its answer within {self._timeout:g} s. Raise request_timeout, or "
                "ask for a shorter answer."
            ) from error
