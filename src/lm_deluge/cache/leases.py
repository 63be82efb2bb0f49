"""Leases: which of several callers fetches an answer. Those of one process, and the thread that renews leases."""

import asyncio
import contextlib
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Sequence

from lm_deluge import _overdue as overdue
from lm_deluge._exit import at_exit
from lm_deluge._per_process import PerProcess
from lm_deluge._threads import carried, start_daemon
from lm_deluge.cache.stores import LeaseStore
from lm_deluge.cache.stores._leases import Leases
from lm_deluge.errors import CacheError

__all__ = ["LEASE_SECONDS", "InProcessLeases", "LeaseKeeper"]

LEASE_SECONDS = 6.0
"""How long a lease lasts that is not renewed: a holder that died is replaced within this time."""

_RENEWALS = 3  # in the life of a lease
_IDLE_SECONDS = 2.0


class InProcessLeases:
    """Leases among the threads of this process, for stores that offer none."""

    def __init__(self) -> None:
        self._state = PerProcess(lambda: (threading.Lock(), Leases()))

    def acquire(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        lock, leases = self._state.get()
        with lock:
            return leases.acquire(keys, holder, now=now, seconds=seconds)

    def renew(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        lock, leases = self._state.get()
        with lock:
            return leases.renew(keys, holder, now=now, seconds=seconds)

    def release(self, keys: Sequence[bytes], holder: bytes) -> None:
        lock, leases = self._state.get()
        with lock:
            leases.release(keys, holder)


_Loop = asyncio.AbstractEventLoop
_Waiting = tuple[bytes, bool, "asyncio.Future[bool]"]


class _State:
    """What a keeper and its thread share."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.wanted: list[_Waiting] = []
        self.returned: list[bytes] = []
        self.held: dict[bytes, _Loop | None] = {}  # with the event loop that makes the call
        self.running = False
        self.talking = False
        self.over = False  # the interpreter ends, or the keeper is not used any more
        self.renewed = time.monotonic()
        # Readable for people who look into the store; unique because of its last part.
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}".encode()

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to give back, now or soon."""
        return not (self.wanted or self.returned or self.talking or None in self.held.values())


class LeaseKeeper:
    """The leases of one client on one event loop.

    A thread talks to the store: what gathers while it talks goes there together, and what is held is renewed until it
    is released. It is a thread and not a task, because a lease must not run out while the event loop or its executor
    are busy with other things, and must be given back even when the loop is over. It is renewed only while the event
    loop runs; the leases of one that is closed, or was stopped, are given back. Time is the machine's own, and not
    the client's clock: leases are an agreement with others.

    Attributes:
        trouble: why leases could not be renewed, if that has happened; another may have asked as well then.
    """

    def __init__(self, store: LeaseStore, *, seconds: float = LEASE_SECONDS) -> None:
        self._store = store
        self._seconds = seconds
        self._state = PerProcess(_State)
        self.trouble: Exception | None = None
        at_exit(self.close)

    async def acquire(self, key: bytes, *, renew: bool = True) -> bool:
        """Whether the lease is ours now.

        Args:
            key: of the answer.
            renew: whether to renew it until it is released; otherwise it runs out by itself.

        Raises:
            Exception: what the store raises.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        state = self._state.get()
        with state.changed:
            if state.over:
                raise CacheError("The cache is closed, so no lease is taken.")
            state.wanted.append((key, renew, future))
            self._wake()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None and future.result():
                self.release(key)  # the lease arrived just as its waiter was cancelled
            raise

    def release(self, key: bytes) -> None:
        """Give a lease back, soon. Never waits."""
        state = self._state.get()
        with state.changed:
            if state.over and key not in state.held:
                return  # it was given back with all others
            state.held.pop(key, None)
            state.returned.append(key)
            self._wake()

    def answered(self, key: bytes) -> None:
        """The answer has arrived. The lease is renewed until the answer is stored, even if the loop has ended."""
        state = self._state.get()
        with state.changed:
            if key in state.held:
                state.held[key] = None

    def close(self) -> None:
        """Give all leases back, and take no more. Blocks until the store has them."""
        _finish(self._state)

    def _wake(self) -> None:
        state = self._state.get()
        if not state.running:
            try:
                start_daemon("lm_deluge leases", self._work, state)
            except RuntimeError:
                if not sys.is_finalizing():
                    raise
                return  # what is held was given back before; see _finish
            state.running = True
        state.changed.notify_all()

    def _work(self, state: _State) -> None:
        while True:
            with state.changed:
                state.talking = False
                state.changed.notify_all()
                pause = self._until_renewal(state) if state.held else _IDLE_SECONDS
                busy = state.changed.wait_for(lambda: bool(state.wanted or state.returned), max(pause, 0.0))
                if not busy and not state.held:
                    state.running = False
                    return
                state.talking = True
                is_due = self._until_renewal(state) <= 0
            if is_due:
                overdue.settle_abandoned()  # so that leases of answers that are there are not given back
            with state.changed:
                due = self._due(state) if is_due else []
                wanted, state.wanted = state.wanted, []
                returned, state.returned = state.returned, []
            if due:
                self._renew(state, due)
            if wanted or returned:
                self._exchange(state, returned, wanted)

    def _due(self, state: _State) -> list[bytes]:
        """The leases to be renewed. Those of an event loop that does not run are given back."""
        state.renewed = time.monotonic()
        for key, loop in list(state.held.items()):
            if loop is not None and not loop.is_running():
                del state.held[key]
                state.returned.append(key)
        return list(state.held)

    def _until_renewal(self, state: _State) -> float:
        return state.renewed + self._seconds / _RENEWALS - time.monotonic()

    def _renew(self, state: _State, keys: list[bytes]) -> None:
        try:
            self._store.renew(keys, state.holder, now=time.time(), seconds=self._seconds)
        except BaseException as error:  # noqa: BLE001 - the next renewal may succeed; the holder of a lease reports it
            self.trouble = carried(error)

    def _exchange(self, state: _State, returned: list[bytes], wanted: list[_Waiting]) -> None:
        began = time.monotonic()
        try:
            if returned:
                self._store.release(returned, state.holder)
            # To the store, all prompts of this client are one holder. Among them, the first one has the lease.
            keys = list(dict.fromkeys(key for key, _, _ in wanted if key not in state.held))
            got = self._acquire(state, keys) if keys else []
            if keys and time.monotonic() - began > self._seconds / _RENEWALS:
                # The store was slow, and the leases are as old as the request.
                got = [had and has for had, has in zip(got, self._acquire(state, keys), strict=True)]
            outcome: set[bytes] | Exception = {key for key, has in zip(keys, got, strict=True) if has}
        except BaseException as error:  # noqa: BLE001 - the waiting caller is told; a lease that is not given back runs out
            outcome = carried(error)
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, bool | Exception]]] = {}
        for waiting in wanted:
            result: bool | Exception = outcome if isinstance(outcome, Exception) else waiting[0] in outcome
            if not isinstance(outcome, Exception):
                outcome.discard(waiting[0])
            by_loop.setdefault(waiting[2].get_loop(), []).append((waiting, result))
        with state.changed:
            if not state.held:
                state.renewed = time.monotonic()
            for loop, results in by_loop.items():
                for (key, renew, _), result in results:
                    if result is True and state.over:  # closed while the store was asked
                        state.returned.append(key)
                    elif result is True and renew:
                        state.held[key] = loop
        for loop, results in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._settle, results)
            except RuntimeError:  # the loop is closed, so no caller waits
                for (key, renew, _), result in results:
                    if result is True and renew:
                        self.release(key)

    def _acquire(self, state: _State, keys: list[bytes]) -> list[bool]:
        return self._store.acquire(keys, state.holder, now=time.time(), seconds=self._seconds)

    def _settle(self, results: Sequence[tuple[_Waiting, bool | Exception]]) -> None:
        for (key, renew, future), result in results:
            if future.done():  # its waiter was cancelled
                if result is True and renew:
                    self.release(key)
            elif isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


def _finish(held: PerProcess[_State]) -> None:
    """Give all leases back: their calls will not be made. Leases of answers that are being stored come last."""
    if not held.is_own:
        return  # they are the parent's
    state = held.get()
    with state.changed, contextlib.suppress(RuntimeError):
        state.over = True
        over = [key for key, loop in state.held.items() if loop is not None]
        for key in over:
            del state.held[key]
        state.returned += over
        state.changed.notify_all()
        state.changed.wait_for(lambda: not state.running or state.is_settled, LEASE_SECONDS)
