"""The native HTTP client's life: built when first needed, never on the event loop, closed before the interpreter ends.

pyreqwest runs all its clients on one thread of its own, which it starts with the first client of a process. That gives
three duties. Reading the certificates takes tens of milliseconds, so a client is built in a worker thread. The I/O
thread does not survive ``fork`` and cannot be started again, so a forked process is told so instead of waiting for
ever. And the thread must be idle when the interpreter is torn down: were it to hand a result over at that moment, the
process would abort.
"""

import asyncio
import atexit
import functools
import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lm_deluge._locks import renewed
from lm_deluge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyreqwest.client import Client, ClientBuilder

__all__ = ["LazyClient"]

# Long enough for the I/O thread to hand over what it holds and let go of the interpreter.
_EXIT_PAUSE = 0.02

_live: "weakref.WeakSet[LazyClient]" = weakref.WeakSet()


class LazyClient:
    """One pyreqwest client for any number of event loops and threads of this process.

    Args:
        configure: adds the settings to a new builder. Called in a worker thread; a ``ValueError`` of the builder is
            reported as :class:`~lm_deluge.errors.ConfigError`.
    """

    def __init__(self, configure: "Callable[[ClientBuilder], ClientBuilder]") -> None:
        self._configure = configure
        self._client: Client | None = None
        self._pid = 0
        self._building = renewed(threading.Lock())

    def current(self) -> "Client | None":
        """The client, if it is built and belongs to this process."""
        return self._client if self._pid == os.getpid() else None

    async def open(self) -> "Client":
        """The client, built if need be.

        Raises:
            ConfigError: a setting is refused, or the process cannot start a client at all.
        """
        client = self.current()
        if client is not None:
            return client
        _refuse_if_forked()  # before the building thread is asked, which a forked process does not have
        return await asyncio.get_running_loop().run_in_executor(_building_thread(), self._open)

    def close(self) -> None:
        """Give up the client. Its requests under way fail; :meth:`open` builds a new one."""
        client, self._client = self.current(), None
        if client is not None:
            _finish(client)

    def _open(self) -> "Client":
        with self._building:
            if (present := self.current()) is not None:
                return present
            client = _build(self._configure)
            self._client, self._pid = client, os.getpid()
            _live.add(self)
            return client


def _refuse_if_forked() -> None:
    if _first_pid() != os.getpid():
        raise ConfigError(
            "This process was forked from one that had already made HTTP requests, and cannot make any itself. "
            'Start it with multiprocessing.get_context("spawn") or "forkserver" instead.'
        )


@functools.cache
def _building_thread() -> ThreadPoolExecutor:
    """The one thread that builds clients, kept for good.

    pyreqwest 0.15 crashes now and then in a process that builds clients in threads which end afterwards: in 17 of 90
    processes of ten clients each, against none of 30 with one lasting thread.
    """
    return ThreadPoolExecutor(1, thread_name_prefix="lm_deluge http")


def _build(configure: "Callable[[ClientBuilder], ClientBuilder]") -> "Client":
    from pyreqwest.client import ClientBuilder
    from pyreqwest.exceptions import BuilderError

    try:
        return configure(ClientBuilder()).build()
    except (BuilderError, ValueError):
        pass  # raised below, as the builder's message may quote the proxy with its password
    raise ConfigError("The HTTP client cannot be set up with this proxy or CA file. Check both settings.")


@functools.cache
def _first_pid() -> int:
    """The process that started the I/O thread, remembered across forks. The first call also arranges the exit."""
    atexit.register(_before_exit)
    return os.getpid()


def _finish(client: "Client") -> None:
    """Close a client from synchronous code: closing only sets a flag, so its coroutine ends at the first step."""
    closing = client.close()
    try:
        closing.send(None)
    except StopIteration:
        return
    closing.close()


def _before_exit() -> None:
    for lazy in list(_live):
        lazy.close()
    time.sleep(_EXIT_PAUSE)
