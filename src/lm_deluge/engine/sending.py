"""One HTTP exchange: whole, or in pieces where others wait for its beginning."""

import asyncio
from http import HTTPStatus

from lm_deluge._clock import Clock
from lm_deluge.engine.warming import WarmTurn
from lm_deluge.errors import ConnectError, ConnectionDropped, RequestTimeout, TransportError
from lm_deluge.models import Model
from lm_deluge.providers import Failure, StreamReader
from lm_deluge.transport import Transport
from lm_deluge.wire import HttpRequest, HttpResponse

__all__ = ["Sender"]

_WORTH_ANOTHER_TRY = (ConnectError, ConnectionDropped, RequestTimeout)


class Sender:
    """Sends requests and tells their turns how that went.

    Args:
        timeout: seconds for one call, from connecting to the last byte.
    """

    def __init__(self, transport: Transport, clock: Clock, *, timeout: float) -> None:
        self._transport = transport
        self._clock = clock
        self._timeout = timeout

    async def send(self, model: Model, request: HttpRequest, turn: WarmTurn, *, stream: bool) -> HttpResponse | Failure:
        """The provider's response, of whatever status, or why there is none.

        Args:
            model: which model is asked.
            request: what to send.
            turn: told when the answer has begun, or that it will not.
            stream: whether ``request`` asks for an answer in pieces. It is put together again.
        """
        started = self._clock.monotonic()
        turn.sent()
        try:
            if stream:
                return await self._stream(model, request, turn, started)
            response = await self._transport.send(request, timeout=self._timeout)
        except TransportError as error:
            turn.failed()
            return Failure(status=0, message=str(error), retryable=isinstance(error, _WORTH_ANOTHER_TRY))
        if response.status == HTTPStatus.OK and response.body.lstrip()[:1] == b"{":
            turn.began(started=started)
        else:
            turn.failed()  # the page of a proxy is no answer, whatever its status
        return response

    async def _stream(
        self, model: Model, request: HttpRequest, turn: WarmTurn, started: float
    ) -> HttpResponse | Failure:
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._transport.stream(request, timeout=self._timeout) as response,
            ):
                if response.status != HTTPStatus.OK:
                    turn.failed()
                    return HttpResponse(status=response.status, headers=response.headers, body=await response.read())
                reader = StreamReader(model)
                async for chunk in response.chunks:
                    reader.feed(chunk)
                    if reader.has_begun:  # and not only a comment that keeps the connection open
                        turn.began(started=started)
        except TimeoutError as error:
            if isinstance(error, TransportError):
                raise
            raise RequestTimeout(
                f"No complete answer came within {self._timeout:g} s. Raise request_timeout."
            ) from error
        outcome = reader.result()
        if isinstance(outcome, Failure):
            turn.failed()
            return outcome
        return HttpResponse(status=response.status, headers=response.headers, body=reader.body())
