"""What every response cache is made of: keys and entries, their ages, and what is written in the background.

``ResponseCache`` is this for users, who block; ``RunCache`` for runs, which do not.
"""

import asyncio
import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from lm_deluge._clock import Clock, SystemClock
from lm_deluge._exit import used_on
from lm_deluge._threads import Threads
from lm_deluge.cache.admission import Admit, policy
from lm_deluge.cache.assembly import entry_of
from lm_deluge.cache.codec import UNKNOWN, Decoded, try_decode
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.guard import patience_of
from lm_deluge.cache.guarded import GuardedStore
from lm_deluge.cache.leases import InProcessLeases, LeaseKeeper
from lm_deluge.cache.on_loop import all_on
from lm_deluge.cache.record import PackedParameters, Scope, pack_request
from lm_deluge.cache.runs import Run
from lm_deluge.cache.scope import scope_of
from lm_deluge.cache.spill import Spill, SpillPlace, spill_directory
from lm_deluge.cache.stores import AwaitableStore, BoundedStore, ConversationStore, JournalStore, LeaseStore, Store
from lm_deluge.cache.writer import Write, Writer, written
from lm_deluge.canonical import conversation_key, conversation_of, entry_key, request_key
from lm_deluge.errors import CacheError, ConfigError
from lm_deluge.prompt import Conversation
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse

if TYPE_CHECKING:
    from lm_deluge.cache.explain import Explanation, Searcher

__all__ = ["Context", "Core", "running_loop"]


class Context(msgspec.Struct, frozen=True):
    """What is asked beside a prompt, in the forms that entries need. Made once for all prompts of a run.

    Attributes:
        digest: for keys; None where it is not known what was asked.
        fingerprint: for the entry's head.
        packed: for the stored request.
    """

    digest: bytes | None = None
    fingerprint: bytes = UNKNOWN
    packed: PackedParameters | None = None


_ALONE = Context()
_STEP_SECONDS = 1.0


class Submitted(msgspec.Struct, frozen=True):
    """An entry to be written, and the event loop that it comes from, if any."""

    entry: Callable[[], Entry]
    loop: asyncio.AbstractEventLoop | None


class Core:
    """A store with the rules of one cache over it; ``ResponseCache`` documents the arguments.

    Attributes:
        backend: the store.
        namespace: the cache's ``cache_key``.
        scope: how answers are looked up.
        finds: whether the store finds all answers to a conversation. If not, it keeps one under each key, and keys are
            made from what the scope says.
        admits: whether a response is worth keeping.
        ttl: seconds after which an answer is not served any more.
        clock: by which ages are told.
        guarded: the store behind its guard, where it needs one (``guarded``); else the store.
        has_guard: whether it has one.
        leases: where all who share the cache agree on who fetches an answer.
        awaitable: the store, where its calls are awaited; else None.
        writer: writes entries behind the running commit.
        readers: where lookups run that block.
    """

    def __init__(
        self,
        backend: Store,
        *,
        cache_key: str,
        scope: Scope | None,
        admit: Admit,
        ttl: float | None,
        max_bytes: int | None,
        clock: Clock | None,
        spill: SpillPlace = None,
    ) -> None:
        if type(cache_key) is not str or not cache_key:
            raise ConfigError(f"cache_key is {cache_key!r}; a name that is not empty is needed.")
        if ttl is not None and (type(ttl) not in (int, float) or not ttl > 0):
            raise ConfigError(f"ttl={ttl!r} is no time; give seconds above 0, or None for no end.")
        self.admits = policy(admit)
        self.backend = backend
        self.namespace = cache_key
        self.scope: Scope = scope_of(scope)
        self.finds = isinstance(backend, ConversationStore)
        self.ttl = ttl
        self.clock = SystemClock() if clock is None else clock
        self._keepers: weakref.WeakSet[LeaseKeeper] = weakref.WeakSet()
        patience = patience_of(backend)
        # What runs use. Users who call the cache themselves are told of its errors at once.
        guarded: Any = backend if patience is None else GuardedStore(backend, self._new_spill(spill), patience=patience)
        self.guarded = guarded
        self.has_guard = patience is not None
        self.leases: LeaseStore = guarded if isinstance(backend, LeaseStore) else InProcessLeases()
        # When entries were last served is kept even without a limit: one may be set later, and people prune by it.
        self._bounded = backend if isinstance(backend, BoundedStore) else None
        if max_bytes is not None:
            self._limit(max_bytes)
        # A store on this machine is always waited for, in a thread.
        self.awaitable = backend if self.has_guard and isinstance(backend, AwaitableStore) else None
        self.writer: Writer[Submitted] = Writer(self._put_all)
        self._accounts: Writer[Run] = Writer(self._record_all)
        # What is on another machine may take its time, and then prompts must not queue up behind each other.
        self.readers = Threads("lm_deluge cache reader", most=32 if self.has_guard else 2)
        self._loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        self.closed = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """A run on this event loop uses the cache."""
        self._loops.add(loop)
        used_on(loop)

    def close(self) -> None:
        """Write what has arrived, and release the store."""
        self.closed = True
        for loop in list(self._loops):
            _let_finish_its_step(loop)
        self.writer.close(self._is_closed)
        self._accounts.close(self._is_closed)
        for keeper in list(self._keepers):
            keeper.close()
        self.guarded.close()

    @property
    def location(self) -> str:
        """Where the entries are, for messages."""
        return self.backend.location

    def explain(
        self,
        prompt: Conversation,
        parameters: Sequence[Parameters],
        *,
        sample: int,
        max_age: float | None,
        searcher: "Searcher | None" = None,
    ) -> "Explanation":
        """Why a prompt is a hit or a miss; ``searcher`` reads the store once for many prompts."""
        from lm_deluge.cache.explain import Wanted, explain  # needed by few

        self.check_open()
        wanted = Wanted(
            conversation=prompt.load(),
            parameters=tuple(parameters),
            namespace=self.namespace,
            scope=self.scope,
            sample=sample,
            max_age=max_age,
            ttl=self.ttl,
        )
        return explain(self.backend, wanted, now=self.clock.time(), searcher=searcher)

    def check_open(self) -> None:
        """Raise if the cache is closed."""
        if self.closed:
            raise CacheError(self._is_closed)

    @property
    def _is_closed(self) -> str:
        return f"The cache {self.location} is closed. Make a new one to go on."

    def submit(self, key: bytes, entry: Callable[[], Entry]) -> Write:
        """Accept an answer, which will be stored in every case from now on. From any thread; never waits for a disk.

        Args:
            key: the entry's.
            entry: makes the entry, in the writer's thread or in this one.

        Raises:
            CacheError: the cache is closed.
        """
        if self.backend.blocks:
            return self.writer.submit(Submitted(entry, running_loop()), key=key, group=conversation_of(key))
        self.check_open()
        self.backend.put_many([entry()])
        return written(key)

    def _put_all(self, items: "Sequence[Submitted]") -> Sequence[BaseException | None] | None:
        entries = [item.entry() for item in items]
        store = self.awaitable
        if store is None or store.async_put is None:
            self.guarded.put_many(entries)
            return None
        puts = [(item.loop, functools.partial(store.store, entry)) for item, entry in zip(items, entries, strict=True)]
        outcomes: Sequence[BaseException | None] = self.guarded.put_each(entries, lambda: all_on(puts))
        return outcomes

    def new_keeper(self) -> LeaseKeeper:
        """A holder of leases; what it has given back is in the store before the store is closed."""
        keeper = LeaseKeeper(self.leases)
        self._keepers.add(keeper)
        return keeper

    def record(self, run: Run) -> Write | None:
        """Accept the account of a run, where the store keeps any."""
        if not isinstance(self.backend, JournalStore):
            return None
        if self.backend.blocks:
            return self._accounts.submit(run)
        self.backend.record_run(run)
        return None

    def _record_all(self, runs: Sequence[Run]) -> None:
        if isinstance(self.backend, JournalStore):
            for run in {run.id: run for run in runs}.values():  # of one run the latest alone
                self.guarded.record_run(run)

    def context(self, parameters: Parameters | None) -> Context:
        """The forms that parameters take in entries of this cache."""
        if parameters is None:
            if self.scope == "request":
                raise ConfigError(
                    'With scope="request" it has to be known what is asked beside the prompt: pass parameters=, for '
                    "example client.parameters()[0]."
                )
            return _ALONE
        return Context(parameters.digest, parameters.fingerprint, PackedParameters.of(parameters, self._scope_of_keys))

    @property
    def _scope_of_keys(self) -> Scope:
        """``"request"`` where keys are made so that the stored request has to say it."""
        return "conversation" if self.finds else self.scope

    def key(self, prompt: Conversation, context: Context = _ALONE, sample: int = 0) -> bytes:
        """The key under which an answer is stored."""
        if self.finds:
            return entry_key(self.conversation(prompt, sample), context.digest)
        if self.scope == "request" and context.digest is not None:
            return request_key(self.namespace, prompt.digest, context.digest, sample)
        return self.conversation(prompt, sample)

    def conversation(self, prompt: Conversation, sample: int = 0) -> bytes:
        """What the keys of all answers to a prompt begin with."""
        return conversation_key(self.namespace, prompt.digest, sample)

    def oldest(self, max_age: float | None, since: float | None = None) -> float | None:
        """The time of the oldest answers that count; None if all do."""
        ages = [age for age in (self.ttl, max_age) if age is not None]
        limits = [self.clock.time() - min(ages)] if ages else []
        if since is not None:
            limits.append(since)
        return max(limits, default=None)

    def decoded(self, key: bytes, value: object) -> Decoded | str | None:
        """What a store gave, or what is wrong with it, in which case it is quarantined."""
        found = try_decode(key, value)
        if not isinstance(found, str):
            return found
        damaged = self.damaged(key, found)
        try:
            self.guarded.quarantine(key, value, damaged)
        except Exception as error:  # noqa: BLE001 - a damaged entry is a miss even where it cannot be moved
            return f"{damaged}. It could not be quarantined: {error}"
        return f"{damaged}. It was quarantined."

    def damaged(self, key: bytes, what: str) -> str:
        """What is said of a damaged entry."""
        return f"{key.hex()[:16]}… in {self.location}: {what}"

    def touch(self, keys: Sequence[bytes]) -> None:
        """Entries were served."""
        if self._bounded is not None and keys:
            self.guarded.touch(keys, now=self.clock.time())

    def entry(
        self, prompt: Conversation, response: APIResponse, context: Context = _ALONE, *, sample: int = 0, run: int = 0
    ) -> Entry:
        """One answer as the store gets it."""
        key = self.key(prompt, context, sample)
        request = pack_request(prompt.load(), context.packed, scope=self._scope_of_keys, sample=sample)
        # What is kept is the answer, not the circumstances in which it was asked for.
        content = None if response.content is None else response.content.load()
        kept = msgspec.structs.replace(response, id=0, local_cache_hit=False, entry=None, content=content)
        created = self.clock.time()
        return entry_of(
            key,
            kept,
            request,
            namespace=self.namespace,
            created=created,
            fingerprint=context.fingerprint,
            run=run,
            expires=None if self.ttl is None else created + self.ttl,
        )

    def _new_spill(self, place: SpillPlace) -> Callable[[], Spill]:
        directory = spill_directory(place)
        identity = f"{getattr(self.backend, 'identity', self.backend.location)} {self.namespace}"
        return lambda: Spill(directory, identity)

    def _limit(self, max_bytes: Any) -> None:
        if type(max_bytes) is not int or max_bytes <= 0:
            raise ConfigError(f"max_bytes={max_bytes!r} is not a number of bytes above 0.")
        if self._bounded is None:
            raise ConfigError(f"{self.location} cannot be limited: max_bytes= needs SqliteCache or MemoryCache.")
        self._bounded.limit(max_bytes)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of this thread, if one runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None  # a thread settles what its loop did not come to


def _let_finish_its_step(loop: asyncio.AbstractEventLoop) -> None:
    """Return after the step that an event loop of another thread is in: an answer may have come in it."""
    if not loop.is_running() or loop is running_loop():
        return
    done = threading.Event()
    with contextlib.suppress(RuntimeError):  # closed in this moment
        loop.call_soon_threadsafe(done.set)
        done.wait(_STEP_SECONDS)
