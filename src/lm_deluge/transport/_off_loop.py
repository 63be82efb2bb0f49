"""Work that blocks, in threads of its own: a full executor must not hold up a connection, nor its end a program's."""

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable
from typing import TypeVar

from lm_deluge._threads import start_daemon

__all__ = ["off_loop"]

T = TypeVar("T")


def off_loop(loop: asyncio.AbstractEventLoop, work: Callable[[], T]) -> "asyncio.Future[T]":
    """The result of ``work()``, done in a daemon thread, which does not hold up the end of the process.

    An ``OSError`` if there can be no other thread now.
    """
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
            future.exception()  # read, as all who waited may have gone
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001 - handed to those who wait
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    try:
        start_daemon("lm_deluge connect", run)
    except RuntimeError:  # there are too many threads, or the interpreter ends
        settle(None, BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
    return future
