"""uvicorn for the emulator: connections handed to the app, and a start and a stop that take no polling."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from lm_deluge._locks import renewed
from lm_deluge._optional import require
from lm_deluge.errors import ConfigError
from lm_deluge.testing import dataset
from lm_deluge.testing.app import CONNECTION, EmulatorApp

if TYPE_CHECKING:
    import uvicorn

__all__ = ["BackgroundServer", "build_server", "listen"]

_START_SECONDS = 10.0
_STOP_SECONDS = 10.0
_LAST_PASSES = 10
_LAST_ANSWERS_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 75


class BackgroundServer:
    """uvicorn in a daemon thread of its own, with its own event loop."""

    def __init__(self, app: EmulatorApp, listener: socket.socket) -> None:
        self._app = app
        self._listener = listener
        self.address: tuple[str, int] = listener.getsockname()[:2]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._ready = renewed(threading.Event())
        self._failure: BaseException | None = None
        self._server = build_server(app, started=self._started, stopped=self._stop.wait)
        self._thread = threading.Thread(target=self._run, name="lm_deluge emulator", daemon=True)

    def start(self) -> None:
        self._thread.start()
        if not self._ready.wait(_START_SECONDS) or self._failure is not None:
            self._listener.close()
            raise ConfigError("the emulator's server did not start") from self._failure

    def stop(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._app.closing.set)
            loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_STOP_SECONDS)
        self._listener.close()
        self._app.closing = asyncio.Event()  # the next start has another event loop

    def _run(self) -> None:
        try:
            dataset.load()  # before there is a loop that reading files could block
            self._server.run(sockets=[self._listener])
        except BaseException as error:  # noqa: BLE001  (handed to the thread that waits in start)
            self._failure = error
        finally:
            self._ready.set()

    def _started(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}; choose another port") from error
    return listener


def build_server(
    app: EmulatorApp,
    *,
    started: Callable[[], None] | None = None,
    stopped: Callable[[], Awaitable[object]] | None = None,
) -> "uvicorn.Server":
    """A uvicorn server for the app.

    Args:
        app: the application.
        started: called once connections are accepted.
        stopped: the server stops when this returns; None for uvicorn's own way, by signals.
    """
    for module in ("uvicorn", "httptools"):
        require(module, extra="server", purpose="the provider emulator")
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Protocol(HttpToolsProtocol):
        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["extensions"] = {CONNECTION: self.transport}  # type: ignore[dict-item]

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if started is not None:
                started()

        async def main_loop(self) -> None:
            await (super().main_loop() if stopped is None else stopped())

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            if stopped is None:
                await super().shutdown(sockets=sockets)
                return
            for server in self.servers:
                server.close()
            for connection in list(self.server_state.connections):
                connection.shutdown()  # closes idle connections; busy ones close after their answer
            if self.server_state.tasks:
                _, late = await asyncio.wait(set(self.server_state.tasks), timeout=_LAST_ANSWERS_SECONDS)
                for task in late:
                    task.cancel()
            for _ in range(_LAST_PASSES):  # closing takes the event loop a few
                for connection in list(self.server_state.connections):
                    connection.transport.abort()  # one that came late, or whose client has gone without a word
                await asyncio.sleep(0)

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        date_header=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
    )
    return Server(config)
