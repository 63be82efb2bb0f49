"""A store behind its guard. Every call of a run goes through here."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lm_deluge._threads import CallHangs, Threads
from lm_deluge.cache._each import all_failed_is_failure, look_up_each, lookups_of, one_went_well
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.found import Found
from lm_deluge.cache.guard import Guard
from lm_deluge.cache.runs import Run
from lm_deluge.cache.spill import Spill
from lm_deluge.cache.stores import ConversationStore
from lm_deluge.errors import CacheError, CacheFileError

__all__ = ["GuardedStore"]

T = TypeVar("T")


def _called(name: str) -> Callable[..., Any]:
    """A method of a store with ``_call`` around it and nothing else."""
    return lambda self, *given, **named: self._call(lambda: getattr(self._store, name)(*given, **named))


class GuardedStore:
    """A store with a time limit for each call, which is not called while it fails. It has the methods of ``Store``, and
    what else a run uses of the store.

    Args:
        store: the store.
        spill: makes what keeps answers.
        patience: seconds for which a call may show no progress.
    """

    blocks = True

    def __init__(self, store: Any, spill: Callable[[], Spill], *, patience: float) -> None:
        self._store = store
        taker = _StoreTaker(store, patience) if getattr(store, "can_block", True) else None
        probe = None if taker is None else lambda: taker.get_many([bytes(32)])
        self._guard = Guard(store.location, taker, spill, patience=patience, probe=probe)
        self._call = self._guard.call

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._guard.look()
        return self._call(lambda: self._store.get_many(keys))

    def find_many(
        self, conversations: Sequence[bytes], own: Sequence[Sequence[bytes]]
    ) -> list[list[tuple[bytes, bytes]]]:
        self._guard.look()
        return self._call(lambda: self._store.find_many(conversations, own))

    def look_up_each(self, look_up: Callable[[bytes], Found], keys: Sequence[bytes]) -> list[Found]:
        """Lookups one by one, as one call of the store."""
        self._guard.look()
        try:
            return self._call(lambda: all_failed_is_failure(look_up_each(look_up, keys)))
        except CacheError as error:
            return lookups_of(error)

    def put_many(self, entries: Sequence[Entry]) -> None:
        try:
            self._call(lambda: self._store.put_many(entries))
        except CacheFileError:
            self._guard.keep(entries)
            raise
        except CacheError:
            if len(entries) == 1:  # several are tried one by one
                self._guard.keep(entries)
            raise

    quarantine = _called("quarantine")
    touch = _called("touch")
    acquire = _called("acquire")
    renew = _called("renew")
    release = _called("release")

    def record_run(self, run: Run) -> None:
        try:
            self._call(lambda: self._store.record_run(run))
        except CacheError:
            self._guard.keep_run(run)
            raise

    async def arrive(self) -> None:
        """A run begins."""
        if not self._guard.is_good:
            await self._guard.in_thread(self._guard.arrive)

    async def fetch(self, key: bytes) -> Any:
        return await self._guard.wait(lambda: self._store.fetch(key))

    def put_each(
        self, entries: Sequence[Entry], put: Callable[[], list[BaseException | None]]
    ) -> list[BaseException | None]:
        """Store entries with ``put``, which awaits the store's own coroutines and gives the outcome of each."""
        try:
            outcomes = self._call(lambda: one_went_well(put()))
        except CacheError as error:
            self._guard.keep(entries)
            return [error] * len(entries)
        self._guard.keep([entry for entry, failure in zip(entries, outcomes, strict=True) if failure is not None])
        return outcomes

    async def quarantine_async(self, key: bytes, value: object, reason: str) -> bool:
        return bool(await self._guard.wait(lambda: self._store.quarantine_async(key, value, reason)))

    def close(self) -> None:
        self._guard.close()
        self._store.close()


class _StoreTaker:
    """Puts what was kept into a store, with a time limit for each call."""

    def __init__(self, store: Any, patience: float) -> None:
        self._store = store
        self._patience = patience
        self._workers: Threads = Threads("lm_deluge cache recovery")
        self.location: str = store.location
        self.refused = 0
        self.finds = isinstance(store, ConversationStore)

    get_many = _called("get_many")
    quarantine = _called("quarantine")
    record_run = _called("record_run")

    def put_many(self, entries: Sequence[Entry]) -> None:
        try:
            self._call(lambda: self._store.put_many(entries))
        except CacheFileError:
            raise
        except CacheError:
            if len(entries) == 1:
                raise
            refused = [error for error in map(self._refusal, entries) if error is not None]
            if len(refused) == len(entries):
                raise
            self.refused += len(refused)

    def _refusal(self, entry: Entry) -> CacheError | None:
        try:
            self._call(lambda: self._store.put_many([entry]))
        except CacheFileError:
            raise
        except CacheError as error:
            return error
        return None

    def _call(self, function: Callable[[], T]) -> T:
        try:
            result: T = self._workers.call(function, patience=self._patience)
        except CallHangs as error:
            raise CacheFileError(f"{self.location}: {error}") from error
        except CacheError:
            raise
        except BaseException as error:
            raise CacheError(f"{type(error).__name__}: {error}") from error
        return result
