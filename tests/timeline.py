"""Runs of minutes and hours in a moment: client and emulated provider on one event loop and one clock.

The clock moves on whenever nothing else can happen, so requests arrive and answers begin when they would.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from lm_deluge import LLMClient
from lm_deluge.testing import FakeClock
from lm_deluge.testing.app import EmulatorApp
from lm_deluge.testing.bill import make_bill
from lm_deluge.transport import StreamedResponse
from lm_deluge.wire import HttpRequest, HttpResponse

T = TypeVar("T")

_QUIET = 3  # looks in a row at which nothing has changed


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that knows what its threads have not finished."""

    def __init__(self) -> None:
        super().__init__()
        self.at_work: set[asyncio.Future[Any]] = set()

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> "asyncio.Future[Any]":
        future = super().run_in_executor(executor, func, *args)
        self.at_work.add(future)
        future.add_done_callback(self.at_work.discard)
        return future


class AppTransport:
    """Hands requests to an ASGI application, without a socket."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def send(self, request: HttpRequest, *, timeout: float) -> HttpResponse:
        async with self.stream(request, timeout=timeout) as answer:
            return HttpResponse(status=answer.status, headers=answer.headers, body=await answer.read())

    @asynccontextmanager
    async def stream(self, request: HttpRequest, *, timeout: float) -> AsyncIterator[StreamedResponse]:
        gone = asyncio.Event()
        asked = [{"type": "http.request", "body": request.body, "more_body": False}]
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def receive() -> dict[str, Any]:
            if not asked:
                await gone.wait()
            return asked.pop() if asked else {"type": "http.disconnect"}

        headers = [(name.encode(), value.encode()) for name, value in request.headers.items()]
        scope = {"type": "http", "path": urlsplit(request.url).path, "method": request.method, "headers": headers}
        serving = asyncio.create_task(self._app(scope, receive, messages.put))
        try:
            start = await messages.get()
            told = {name.decode(): value.decode() for name, value in start["headers"]}

            async def chunks() -> AsyncIterator[bytes]:
                more = True
                while more:
                    message = await messages.get()
                    more = message.get("more_body", False)
                    yield message.get("body", b"")

            yield StreamedResponse(status=start["status"], headers=told, chunks=chunks())
        finally:
            gone.set()
            await serving

    async def aclose(self) -> None:
        return


class Timeline:
    """An emulated provider on a clock of its own, and clients of it.

    Args:
        arguments: for the emulator; by default its answers take five seconds.
    """

    def __init__(self, **arguments: Any) -> None:
        self.clock = FakeClock()
        self._runner = asyncio.Runner(loop_factory=_Loop)
        self._loop = cast("_Loop", self._runner.get_loop())
        self._arguments = {"latency": 5.0, **arguments}
        self.reset()

    def reset(self) -> None:
        """Another provider, whose caches are empty and which has charged nothing."""
        self.app = EmulatorApp(clock=self.clock, **self._arguments)

    def client(self, model: str | list[str], **arguments: Any) -> LLMClient:
        """A client with the default limits."""
        transport = AppTransport(lambda *call: self.app(*call))
        client = LLMClient(model, transport=transport, api_key="any", clock=self.clock, **arguments)
        if isinstance(model, str):
            client.estimate([])  # looks up prices, which takes real time
        return client

    @property
    def cost(self) -> float:
        """What the provider has charged, in dollars."""
        return make_bill(self.app.charges).cost

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of something, while time goes by."""

        async def main() -> T:
            task = asyncio.ensure_future(work)
            while not task.done():
                await self._settle(task)
                if not task.done():
                    self.clock.advance_to_next()
            return await task

        return self._runner.run(main())

    def close(self) -> None:
        """End the event loop."""
        self._runner.close()

    async def _settle(self, task: "asyncio.Future[Any]") -> None:
        quiet, before = 0, None
        while quiet < _QUIET and not task.done():
            if self._loop.at_work:
                await asyncio.wait(self._loop.at_work)
            for _ in range(20):
                await asyncio.sleep(0)
            now = (self.app.stats.calls, self.app.stats.in_flight, self.clock.sleeping)
            quiet = quiet + 1 if now == before and self.clock.sleeping and not self._loop.at_work else 0
            before = now
