"""The response cache: prompts in, responses out, over any store.

``get`` and ``put`` are for users and block. A run uses the cache through ``RunCache``, which looks up and stores many
at once and keeps disks and networks off the event loop.
"""

import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lm_deluge._clock import Clock
from lm_deluge.cache.admission import Admit
from lm_deluge.cache.codec import Decoded
from lm_deluge.cache.core import Core
from lm_deluge.cache.for_run import RunCache
from lm_deluge.cache.found import EngineCache, Found, Prompt, RunContext
from lm_deluge.cache.lookup import Lookup
from lm_deluge.cache.record import Scope
from lm_deluge.cache.spill import SpillPlace
from lm_deluge.cache.stores import Store
from lm_deluge.errors import CacheWarning, ConfigError
from lm_deluge.prompt import Conversation
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse

if TYPE_CHECKING:
    from lm_deluge.cache.explain import Explanation

__all__ = ["ResponseCache"]


class ResponseCache:
    """Responses by prompt, in a store.

    Args:
        store: where the entries are.
        cache_key: a namespace; caches with different ones never see each other's entries.
        scope: how to look. ``"conversation"``: any answer to the conversation will do, that of the same request first;
            so one of another model or with other parameters may be served. ``"request"``: the same model, sampling
            parameters, tools, tool choice, output schema, extra body, extra headers but for credentials, and endpoint.
            By default what the environment variable ``LM_DELUGE_CACHE_SCOPE`` says, or ``"conversation"``. Answers are
            stored in the same way, so caches of both scopes may share a store.
        admit: which answers to keep, beside errors, refusals, filtered and empty answers, which are never kept:
            ``"answers"`` for all, ``"complete"`` for those that were not cut short, or a function that decides. It
            is called on the event loop, so it should be quick.
        ttl: seconds after which an answer is not served any more by this object; None for never. Redis also drops
            what was stored with it.
        max_bytes: keep the store below this size by removing the least recently used entries; None for no limit.
        spill: where answers are kept that a store on another machine does not take for a while, until it does: a
            directory; ``False`` for memory alone; by default ``LM_DELUGE_SPILL``, or ``lm_deluge/spill`` in the state
            directory of XDG.
        clock: what tells the time; for tests.

    Raises:
        ConfigError: an argument has no meaning, or the store cannot be limited.
    """

    def __init__(
        self,
        store: Store,
        *,
        cache_key: str = "default",
        scope: Scope | None = None,
        admit: Admit = "answers",
        ttl: float | None = None,
        max_bytes: int | None = None,
        spill: SpillPlace = None,
        clock: Clock | None = None,
    ) -> None:
        self._core = Core(
            store, cache_key=cache_key, scope=scope, admit=admit, ttl=ttl, max_bytes=max_bytes, spill=spill, clock=clock
        )

    @property
    def core(self) -> Core:
        """What runs use of the cache. Not for users."""
        return self._core

    @property
    def backend(self) -> Store:
        """The store, for housekeeping: ``cache.backend.usage()``, for example."""
        return self._core.backend

    def key(self, prompt: Conversation, parameters: Parameters | None = None, *, sample: int = 0) -> bytes:
        """The key under which an answer is stored: 48 bytes; 32 in a store that can only get and put.

        Raises:
            ConfigError: ``scope="request"`` and no ``parameters``.
        """
        return self._core.key(prompt, self._core.context(parameters), sample)

    def get(self, prompt: Conversation, parameters: Parameters | None = None, *, sample: int = 0) -> APIResponse | None:
        """The stored response of a prompt, or None. Blocks. A damaged entry is quarantined with a warning, and is None.

        Args:
            prompt: a conversation.
            parameters: what is asked beside it, such as ``client.parameters()[0]``; needed with ``scope="request"``.
            sample: which of several independent answers.

        Raises:
            CacheError: the cache is closed, or the store cannot be asked.
            ConfigError: ``parameters`` are needed and missing.
        """
        self._core.check_open()
        (found,) = self._lookup(parameters).find(self.backend, [Prompt(prompt, sample)], self._core.oldest(None))
        if found.damage is not None:
            warnings.warn(f"A damaged cache entry counts as a miss: {found.damage}", CacheWarning, stacklevel=2)
        return found.response

    def put(
        self, prompt: Conversation, response: APIResponse, parameters: Parameters | None = None, *, sample: int = 0
    ) -> None:
        """Store any response. It is committed when this returns. Blocks.

        Args:
            prompt: a conversation.
            response: its answer.
            parameters: what was asked beside it; needed with ``scope="request"``.
            sample: which of several independent answers.

        Raises:
            CacheError: the cache is closed, or the store cannot be written.
            ConfigError: ``parameters`` are needed and missing.
        """
        self._core.check_open()
        self.backend.put_many([self._core.entry(prompt, response, self._core.context(parameters), sample=sample)])

    def delete(self, prompt: Conversation, parameters: Parameters | None = None, *, sample: int = 0) -> bool:
        """Remove the stored response of a prompt; whether there was one. Blocks.

        With ``scope="conversation"``, all answers to the conversation go, for all parameters.

        Raises:
            CacheError: the cache is closed, or the store cannot be written.
            ConfigError: ``parameters`` are needed and missing.
        """
        self._core.check_open()
        lookup, asked = self._lookup(parameters), Prompt(prompt, sample)
        seen: set[bytes] = set()
        deleted = 0
        while keys := lookup.keys(self.backend, asked) - seen:  # a store gives a few at once
            seen |= keys
            deleted += sum(map(self.backend.delete, keys))
        return deleted > 0

    def reject(self, response: APIResponse, *, reason: str = "") -> bool:
        """Take an answer out of service because it is bad. It is kept for audit, and not served again.

        Who asks next gets another answer to the conversation, if there is one and ``scope`` allows it, or buys one.

        Args:
            response: as a client returned it, from the provider or from the cache.
            reason: why, for the audit.

        Returns:
            Whether it was there; False if the entry is gone or holds another answer by now.

        Raises:
            CacheError: the cache is closed, or the store cannot be written.
            ConfigError: the response is in no cache.
        """
        self._core.check_open()
        if not isinstance(response, APIResponse):
            raise ConfigError(f"reject() takes a response of a client, not {type(response).__name__}.")
        if response.entry is None:
            raise ConfigError("This response is in no cache: it is an error, was not admitted, or was never stored.")
        key = bytes.fromhex(response.entry)
        value = self.backend.get_many([key])[0]
        found = self._core.decoded(key, value)
        if not isinstance(found, Decoded):
            return False
        stored = found.response
        if (stored.response_id, stored.content) != (response.response_id, response.content):
            return False
        return self.backend.quarantine(key, value, f"rejected: {reason}" if reason else "rejected")

    def explain(
        self,
        prompt: Conversation,
        parameters: Sequence[Parameters] = (),
        *,
        sample: int = 0,
        max_age: float | None = None,
    ) -> "Explanation":
        """Whether there is an answer to a prompt, and if not, why: the nearest entries and how they differ. Blocks.

        Args:
            prompt: a conversation.
            parameters: what would be asked beside it, of each model that may answer, as ``client.parameters()`` gives.
            sample: which of several independent answers.
            max_age: seconds; older entries do not count.

        Raises:
            CacheError: the cache is closed, or the store cannot be read.
            ConfigError: ``scope="request"`` and no parameters.
        """
        return self._core.explain(prompt, parameters, sample=sample, max_age=max_age)

    async def get_many(self, prompts: Sequence[Conversation], parameters: Parameters | None = None) -> list[Found]:
        """Look many prompts up, off the event loop where the store blocks. Prompts must be loaded.

        Raises:
            CacheError: the cache is closed, or the store cannot be asked.
            ConfigError: ``parameters`` are needed and missing.
        """
        return await self._for_call(parameters).get_many([Prompt(prompt) for prompt in prompts])

    async def store(self, prompt: Conversation, response: APIResponse, parameters: Parameters | None = None) -> None:
        """Store a response; committed on return. Many at once share a commit. Cancelling does not take it back.

        Raises:
            CacheError: the cache is closed, or the store cannot be written.
            ConfigError: ``parameters`` are needed and missing.
        """
        self._core.check_open()
        await self._for_call(parameters).submit(Prompt(prompt), response, parameters)

    def close(self) -> None:
        """Write what is still in flight, and release the store. Closing twice is fine. Blocks."""
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        scope = "" if self._core.scope == "conversation" else f", scope={self._core.scope!r}"
        return f"{type(self).__name__}({self.backend.location!r}, cache_key={self._core.namespace!r}{scope})"

    @property
    def location(self) -> str:
        """Where the entries are, for messages."""
        return self.backend.location

    def _lookup(self, parameters: Parameters | None) -> Lookup:
        return Lookup(self._core, () if parameters is None else (parameters,))

    def _for_call(self, parameters: Parameters | None) -> EngineCache:
        return RunCache(self._core, RunContext(parameters=() if parameters is None else (parameters,)))
