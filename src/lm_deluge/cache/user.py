"""Any object with ``get(prompt)`` and ``put(prompt, response)`` as the engine's cache.

Coroutine functions are awaited. Other functions run in one thread that belongs to the object, so it is called by one
thread at a time and never blocks the event loop. A call that hangs is given up, and an object that fails is not called
for a while (``guard``).
"""

import asyncio
import contextlib
import functools
import inspect
import sqlite3
import threading
import time
import warnings
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from lm_deluge._threads import made_progress
from lm_deluge.cache._each import all_failed_is_failure, look_up_all, look_up_each, lookups_of, one_went_well
from lm_deluge.cache.admission import policy
from lm_deluge.cache.codec import decode
from lm_deluge.cache.core import running_loop
from lm_deluge.cache.entry import Entry, blobs_in
from lm_deluge.cache.for_run import RunCache
from lm_deluge.cache.found import Asked, EngineCache, Found, RunContext
from lm_deluge.cache.guard import Guard
from lm_deluge.cache.leases import InProcessLeases, LeaseKeeper
from lm_deluge.cache.on_loop import all_on
from lm_deluge.cache.record import unpack_request
from lm_deluge.cache.responses import ResponseCache
from lm_deluge.cache.runs import Run
from lm_deluge.cache.spill import Spill, spill_directory
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.writer import Write, Writer
from lm_deluge.errors import CacheError, CacheWarning, ConfigError
from lm_deluge.prompt import Conversation
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse

__all__ = ["Opener", "UserCache", "adapt"]

T = TypeVar("T")

_PATIENCE = 5.0

Opener = Callable[[RunContext], EngineCache]
"""Gives a run its view of a cache."""


def adapt(cache: Any) -> Opener | None:
    """A function that gives each run its view of the object that was given as ``cache=``.

    Raises:
        TypeError: the object has no ``get`` and ``put``.
    """
    if cache is None:
        return None
    if isinstance(cache, ResponseCache):
        return lambda run: RunCache(cache.core, run)
    if isinstance(cache, type):
        raise TypeError(f"cache= got the class {cache.__name__}; it needs an object, such as {cache.__name__}(...).")
    missing = [name for name in ("get", "put") if not callable(getattr(cache, name, None))]
    if missing:
        hint = (
            "A prompt cache pattern goes to process_prompts_*(..., cache=...)."
            if isinstance(cache, str)
            else "Wrap a mapping in DistributedDictCache."
        )
        raise TypeError(
            f"cache= needs an object with get(prompt) and put(prompt, response); "
            f"{type(cache).__name__} has no {' and no '.join(missing)}. {hint}"
        )
    # One for each object: all clients share its health and what is kept for it.
    known = _known.get(id(cache))
    if known is None:
        known = _known[id(cache)] = UserCache(cache)
    return known.for_run


_known: "weakref.WeakValueDictionary[int, UserCache]" = weakref.WeakValueDictionary()
"""By the object's ``id``, which no other object has as long as the value refers to it."""

_owing: "set[UserCache]" = set()
"""Those that still have something for their object; they live until it is handed over."""


class _Put(msgspec.Struct, frozen=True):
    """An answer for the object, and the event loop that it comes from, if any."""

    prompt: Conversation
    response: APIResponse
    loop: asyncio.AbstractEventLoop | None


class UserCache:
    """The engine's cache over an object with ``get`` and ``put``, for all runs of a client."""

    admits = staticmethod(policy("answers"))

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        directory = spill_directory(None)
        identity = f"{type(cache).__module__}.{type(cache).__qualname__}"
        # A file does not tell for which object it was left, so files of other processes are not used.
        self._guard = Guard(
            self.location,
            None if inspect.iscoroutinefunction(cache.put) else _Taker(cache, lambda: self._guard),
            lambda: Spill(directory, identity, adopts=False),
            patience=_PATIENCE,
            probe=None if inspect.iscoroutinefunction(cache.get) else self._ask_again,
            most=1,
        )
        # Makes entries, for what the object does not take.
        self._entries = ResponseCache(MemoryStore()).core
        self._last: Conversation | None = None
        self._begins = False
        self._writer: Writer[_Put] = Writer(self._put_all)
        self._home = threading.get_ident()
        self._inline = False
        self._leases = InProcessLeases()

    def for_run(self, run: RunContext) -> "UserCache":
        """The cache for a run.

        Raises:
            ConfigError: the run wants to know what only a cache of this package can tell.
        """
        for option, is_set in (("max_age", run.max_age is not None), ("samples", run.samples > 1)):
            if is_set:
                raise ConfigError(
                    f"{option}= needs a cache of lm_deluge.cache: get(prompt) of {self.location} does not take it."
                )
        self._begins = True
        if not self._guard.owes:
            _owing.discard(self)
        return self

    def new_keeper(self) -> LeaseKeeper:
        """A holder of leases among the event loops of one client."""
        return LeaseKeeper(self._leases)

    def key(self, asked: Asked) -> bytes:
        """The prompt's digest: nothing else reaches the object."""
        return asked.prompt.digest

    async def get_many(self, asked: Sequence[Asked], *, since: float | None = None) -> list[Found]:
        """What the object has for each prompt; a ``get`` that raises or gives something else is a failed lookup.

        The object cannot tell when it stored something, so it is not asked where that matters.
        """
        if since is not None:
            return [Found()] * len(asked)
        prompts = [item.prompt for item in asked]
        self._last = prompts[-1] if prompts else None
        if self._begins:
            self._begins = False
            if not self._guard.is_good:
                await self._guard.in_thread(self._guard.arrive)
        if inspect.iscoroutinefunction(self._cache.get):
            return await look_up_all(self._get_async, prompts)
        try:
            return await self._call(
                lambda: all_failed_is_failure(look_up_each(self._get, prompts, gives_up=_is_bound_to_a_thread))
            )
        except CacheError as error:
            return lookups_of(error)

    def submit(self, asked: Asked, response: APIResponse, parameters: Parameters | None) -> Write:
        """Call the object's ``put`` in the background. If that fails or hangs, or the object is not called for now, the
        write fails and the response is kept."""
        return self._writer.submit(_Put(asked.prompt, response, running_loop()))

    @property
    def is_closed(self) -> bool:
        """Never: the object is its owner's."""
        return False

    async def differences(self, entry: bytes) -> None:
        """Nothing: the object knows responses alone."""

    async def explain(self, asked: Asked) -> None:
        """Nothing: the object cannot be searched."""

    def record(self, run: Run) -> None:
        """Nothing: the object keeps no accounts."""

    def time(self) -> float:
        """The machine's clock; the object cannot tell ages."""
        return time.time()

    @property
    def location(self) -> str:
        """The type's name."""
        return type(self._cache).__name__

    def _get(self, prompt: Conversation) -> Found:
        return _found(self._cache.get(prompt))

    async def _get_async(self, prompt: Conversation) -> Found:
        return _found(await self._guard.wait(lambda: self._cache.get(prompt)))

    def _ask_again(self) -> None:
        prompt = self._last
        if prompt is not None:
            self._guard.workers.call(lambda: self._cache.get(prompt), patience=_PATIENCE)

    def _put_all(self, puts: "Sequence[_Put]") -> list[BaseException | None]:
        """Called in the writer's thread."""
        outcomes: list[BaseException | None]
        if inspect.iscoroutinefunction(self._cache.put):
            calls = [(put.loop, functools.partial(self._cache.put, put.prompt, put.response)) for put in puts]
            try:
                outcomes = self._guard.call(lambda: one_went_well(all_on(calls)))
            except CacheError as error:
                outcomes = [error] * len(puts)
        elif self._inline:  # it is bound to the thread of the loop
            outcomes = [self._put_at(put) for put in puts]
        else:
            outcomes = self._put_there(puts)
        missed = [put for put, outcome in zip(puts, outcomes, strict=True) if outcome is not None]
        if missed:
            self._guard.keep([self._entries.entry(put.prompt, put.response) for put in missed])
            _owing.add(self)
        return outcomes

    def _put_there(self, puts: "Sequence[_Put]") -> list[BaseException | None]:
        """Call ``put`` for all of them in the object's own thread."""
        promised: list[tuple[int, Any]] = []

        def put_each() -> list[BaseException | None]:
            outcomes: list[BaseException | None] = []
            for position, put in enumerate(puts):
                try:
                    outcome = self._cache.put(put.prompt, put.response)
                except BaseException as error:  # noqa: BLE001 - of this put alone
                    outcomes.append(error)
                else:
                    outcomes.append(None)
                    if inspect.isawaitable(outcome):
                        promised.append((position, outcome))
                made_progress()
            return one_went_well(outcomes)

        try:
            outcomes = self._guard.call(put_each)
        except CacheError as error:
            if _is_bound_to_a_thread(error.__cause__):
                return [self._put_at(put, bound=error) for put in puts]
            return [error] * len(puts)
        for position, awaitable in promised:
            outcomes[position] = self._await(puts[position], awaitable)
        return outcomes

    def _await(self, put: "_Put", outcome: Awaitable[Any]) -> BaseException | None:
        return all_on([(put.loop, lambda: outcome)])[0]

    def _put_at(self, put: "_Put", *, bound: CacheError | None = None) -> BaseException | None:
        """On the event loop that the answer came to; if the object is ``bound`` to a thread, only in that thread."""

        async def put_there() -> None:
            if bound is not None and threading.get_ident() != self._home:
                raise bound
            outcome = self._cache.put(put.prompt, put.response)
            if inspect.isawaitable(outcome):
                await outcome

        (failure,) = all_on([(put.loop, put_there)])
        if failure is None and bound is not None:
            self._now_inline()
        return failure

    async def _call(self, function: Callable[[], T]) -> T:
        if not self._inline:
            try:
                return await self._guard.call_async(function)
            except CacheError as error:
                # The object works in one thread only. If this is that thread, it is called here.
                if not _is_bound_to_a_thread(error.__cause__) or threading.get_ident() != self._home:
                    raise
            self._now_inline()
        return function()

    def _now_inline(self) -> None:
        if self._inline:
            return  # of several calls in flight, the first one says so
        self._inline = True
        with contextlib.suppress(CacheWarning):  # where warnings are errors: no lookup may fail by it
            warnings.warn(
                f"{self.location} holds an SQLite connection bound to the thread that opened it, so it is "
                "called on the event loop, which waits meanwhile. Open it with check_same_thread=False.",
                CacheWarning,
                stacklevel=2,
            )


def _found(response: object) -> Found:
    if response is None or isinstance(response, APIResponse):
        return Found(response)
    if inspect.iscoroutine(response):
        response.close()
        return Found(failure="get() gave a coroutine but is not a coroutine function; declare it with async def")
    return Found(failure=f"get() gave a {type(response).__name__}; an APIResponse or None is needed")


class _Taker:
    """Puts what was kept into the object, in its own thread."""

    def __init__(self, cache: Any, guard: Callable[[], Guard]) -> None:
        self._cache = cache
        self._guard = guard
        self.location = type(cache).__name__
        self.refused = 0
        self.finds = False

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [None] * len(keys)  # it takes what it is given

    def put_many(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            request = unpack_request(entry.request, blobs_in(entry.blobs))
            response = decode(entry.key, entry.value).response
            put = functools.partial(self._cache.put, request.conversation, response)
            self._guard().workers.call(put, patience=_PATIENCE)

    def quarantine(self, key: bytes, value: object, reason: str) -> bool:
        return False  # nothing of it is looked up

    def record_run(self, run: Run) -> None:
        """Nothing: the object keeps no accounts."""


def _is_bound_to_a_thread(error: BaseException | None) -> bool:
    return isinstance(error, sqlite3.ProgrammingError) and "thread" in str(error)
