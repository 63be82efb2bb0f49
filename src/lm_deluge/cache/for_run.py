"""A response cache as one run uses it: many prompts at once, and nothing that blocks on the event loop."""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from lm_deluge._threads import in_thread
from lm_deluge.cache._each import look_up_all
from lm_deluge.cache.codec import try_decode
from lm_deluge.cache.core import Core, running_loop
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.found import Asked, Found, RunContext
from lm_deluge.cache.lookup import IN_FLIGHT_SECONDS, MISS, Lookup
from lm_deluge.cache.record import unpack_request
from lm_deluge.cache.stores import ScanStore
from lm_deluge.cache.writer import Write
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse

if TYPE_CHECKING:
    from lm_deluge.cache.explain import Searcher

__all__ = ["RunCache"]

T = TypeVar("T")


class RunCache:
    """One run's view of a ``ResponseCache``; see ``EngineCache`` for what its methods promise."""

    def __init__(self, cache: Core, run: RunContext) -> None:
        self._cache = cache
        self.new_keeper, self.admits, self.record = cache.new_keeper, cache.admits, cache.record
        self.location, self.time = cache.location, cache.clock.time
        if (loop := running_loop()) is not None:
            cache.attach(loop)
        self._store = cache.backend
        self._run = run
        self._lookup = Lookup(cache, run.parameters)
        self._guarded = cache.guarded
        self._arrived = not cache.has_guard
        self._searcher: Searcher | None = None

    def key(self, asked: Asked) -> bytes:
        return self._lookup.flight_key(asked)

    async def get_many(self, asked: Sequence[Asked], *, since: float | None = None) -> list[Found]:
        self._cache.check_open()
        if not self._arrived:
            self._arrived = True
            await self._guarded.arrive()
        oldest = self._cache.oldest(self._run.max_age, since)
        if self._cache.finds:
            return await self._call(lambda: self._lookup.find(self._guarded, asked, oldest))
        best: list[Found] = [MISS] * len(asked)
        for context in self._lookup.rounds:
            missing = [position for position, found in enumerate(best) if found.response is None]
            if not missing:
                break
            some = [asked[position] for position in missing]
            outcomes = await self._get_keys(functools.partial(self._lookup.keys_of, some, context), oldest)
            for position, found in zip(missing, outcomes, strict=True):
                if found is not MISS:
                    best[position] = found
        return best

    def submit(self, asked: Asked, response: APIResponse, parameters: Parameters | None) -> Write:
        cache, sample = self._cache, asked.sample
        context = cache.context(None) if parameters is None else self._lookup.contexts[parameters.model]

        # Packed by the writer's thread, many at a time: the event loop, which serves the network, is spared it, and the
        # interpreter changes hands less often. Once, even if the writer has to try again.
        @functools.cache
        def pack() -> Entry:
            return cache.entry(asked.prompt, response, context, sample=sample, run=self._run.run)

        return cache.submit(cache.key(asked.prompt, context, sample), pack)

    @property
    def is_closed(self) -> bool:
        return self._cache.closed

    async def differences(self, entry: bytes) -> str | None:
        store = self._store
        if not isinstance(store, ScanStore) or not self._run.parameters:
            return None
        return await self._call(lambda: _differences(store, entry, self._run.parameters))

    async def explain(self, asked: Asked) -> str | None:
        # Even where the store does not block, searching thousands of entries would hold up the event loop.
        return await in_thread(lambda: self._explain(asked))

    def _explain(self, asked: Asked) -> str:
        from lm_deluge.cache.explain import Searcher  # needed by few runs

        self._searcher = self._searcher or Searcher(self._store, self._cache.namespace)
        return self._cache.explain(
            asked.prompt, self._run.parameters, sample=asked.sample, max_age=self._run.max_age, searcher=self._searcher
        ).short

    async def _get_keys(self, keys: Callable[[], list[bytes]], oldest: float | None) -> list[Found]:
        store = self._cache.awaitable
        if store is None:
            return await self._call(lambda: self._lookup.get(self._guarded, keys(), oldest))
        if store.async_get is None:
            return await self._call(lambda: self._read_each(keys(), oldest))
        return await look_up_all(lambda key: self._fetch(key, oldest), keys())

    async def _call(self, function: Callable[[], T]) -> T:
        if not self._store.blocks:
            return function()
        # In threads of its own: those of the event loop may all be taken, and a hit waits for no other work.
        return await self._cache.readers.run(function)

    def _read_each(self, keys: Sequence[bytes], oldest: float | None) -> list[Found]:
        def look_up(key: bytes) -> Found:
            return self._lookup.get(self._store, [key], oldest)[0]

        found: list[Found] = self._guarded.look_up_each(look_up, keys)
        return found

    async def _fetch(self, key: bytes, oldest: float | None) -> Found:
        if (write := self._cache.writer.in_flight(key)) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IN_FLIGHT_SECONDS):
                    await write.over()
        value = await self._guarded.fetch(key)
        decoded = try_decode(key, value)
        if isinstance(decoded, str):
            damaged = self._cache.damaged(key, decoded)
            try:
                await self._guarded.quarantine_async(key, value, damaged)
            except Exception as error:  # noqa: BLE001 - a damaged entry is a miss even where it cannot be moved
                return Found(damage=f"{damaged}. It could not be quarantined: {error}")
            return Found(damage=f"{damaged}. It was quarantined.")
        return self._lookup.found(key, decoded, oldest)


def _differences(store: ScanStore, entry: bytes, parameters: Sequence[Parameters]) -> str | None:
    """What differs between an entry's parameters and the nearest of the run's."""
    from lm_deluge.cache.explain.differences import differences  # needed by few runs

    (stored,) = store.read([entry])
    if stored is None:
        return None
    request = unpack_request(stored.request, store.read_blobs)
    if request.parameters is None:
        return None
    found = [differences(msgspec.structs.replace(request, parameters=own), request) for own in parameters]
    return "; ".join(str(item) for item in min(found, key=len) if item.path != "model") or None
