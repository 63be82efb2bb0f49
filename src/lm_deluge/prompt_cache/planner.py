"""From the user's wish to the fields of a request: breakpoints, mode, key, and the prefixes that they stand for."""

from collections.abc import Iterable, Sequence

import msgspec

from lm_deluge.models import Model
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache.breakpoints import at_the_end, fewer, longest_first, may_hold_breakpoints
from lm_deluge.prompt_cache.layout import Reader
from lm_deluge.prompt_cache.options import PromptCache
from lm_deluge.prompt_cache.patterns import beginning, end
from lm_deluge.prompt_cache.prefix import Prefix, cache_key, prefixes
from lm_deluge.prompt_cache.prefix_index import PrefixIndex, PrefixIndexes
from lm_deluge.request import Breakpoint
from lm_deluge.tool import Tool

__all__ = ["CachePlan", "Planner"]


class CachePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says about caching. The first five are fields of ``Request``.

    Attributes:
        breakpoints: where the provider should cache.
        automatic_cache: leave the place to the provider.
        cache_ttl: how long entries live whose place is the provider's choice.
        cache_tail: whether the provider also caches the end of the prompt; None for its default, or no where there are
            breakpoints.
        prompt_cache_key: keeps prompts with one prefix together.
        prefixes: what the breakpoints stand for, the shortest first; each is a part of the next one.
    """

    breakpoints: tuple[Breakpoint, ...] = ()
    automatic_cache: bool = False
    cache_ttl: str | None = None
    cache_tail: bool | None = None
    prompt_cache_key: str | None = None
    prefixes: tuple[Prefix, ...] = ()

    @property
    def is_long_enough(self) -> bool:
        """Whether a prefix has the model's minimum by our own count, so that writing it alone is worth a request."""
        return any(prefix.tokens >= prefix.minimum for prefix in self.prefixes)

    def with_shard(self, shard: int) -> "CachePlan":
        """The same with another routing key, which is a cache of its own. Without a key nothing changes."""
        if not shard or self.prompt_cache_key is None:
            return self
        key = f"{self.prompt_cache_key.rpartition('-')[0]}-{shard}"
        apart = tuple(msgspec.structs.replace(each, id=each.id + key.encode()) for each in self.prefixes)
        return msgspec.structs.replace(self, prompt_cache_key=key, prefixes=apart)


class Planner:
    """Plans the requests of one run to one model.

    Args:
        cache: what the user asked for.
        model: where the requests go.
        tools: the tools that all of them have.
        scope: anything else that separates caches, as bytes: ``Parameters.fingerprint`` is enough.
        reserved: breakpoints that the request carries besides, for example in ``extra_body``.
        indexes: what earlier runs of the client know of shared prefixes; None for a run by itself.
    """

    def __init__(
        self,
        cache: PromptCache,
        model: Model,
        tools: Sequence[Tool] = (),
        *,
        scope: bytes = b"",
        reserved: int = 0,
        indexes: PrefixIndexes | None = None,
    ) -> None:
        self.cache = cache
        self._model = model
        self._tools = tuple(tools)
        self.reserved = reserved
        self._reader = Reader(model, tools, scope=scope)
        self._index: PrefixIndex | None = None
        self._run = 0
        if cache.row.learns:
            known = PrefixIndexes() if indexes is None else indexes
            self._index, self._run = known.get(model, tools, scope), known.new_run()

    @property
    def warms(self) -> bool:
        """Whether requests wait for the first with their prefix. See ``PromptCache.warm``."""
        return bool(self.cache.warm) and self._model.caching.takes_instructions

    def learn(self, conversations: Iterable[Conversation]) -> None:
        """See more prompts, before the first of them is planned. Only ``shared_prefix`` needs it."""
        if self._index is not None:
            self._index.add(conversations, run=self._run)

    def plan(self, conversation: Conversation) -> CachePlan:
        """What the request for a prompt says. Its media have to be loaded."""
        caching = self._model.caching
        automatic = self.cache.row.leaves_place and caching.places_breakpoint
        ttl: str | None = self.cache.ttl
        breakpoints = self._breakpoints(conversation) if caching.takes_breakpoints else ()
        if automatic and not caching.caches_tail and may_hold_breakpoints(conversation):
            automatic, ttl = at_the_end(self._reader.blocks(conversation), ttl, caching, reserved=self.reserved)
        anchors = self._anchors(conversation) if caching.takes_key and not breakpoints else breakpoints
        found = prefixes(self._reader, conversation, anchors, model=self._model)
        return CachePlan(
            breakpoints=breakpoints,
            automatic_cache=automatic,
            cache_ttl=ttl,
            # What comes behind a breakpoint, the user's too, varies. And where prompts share nothing that can be
            # cached, all of each would be written and never read.
            cache_tail=True if self.cache.goes_on else False if found or self._index is not None else None,
            # Of the shortest: prompts that part behind it are neighbors all the same.
            prompt_cache_key=cache_key(found[0].id) if caching.takes_key and found else None,
            prefixes=found,
        )

    def _breakpoints(self, conversation: Conversation) -> tuple[Breakpoint, ...]:
        """Where breakpoints go."""
        caching = self._model.caching
        leaves_place = self.cache.row.leaves_place
        if leaves_place and caching.places_breakpoint:
            return ()
        most = caching.max_breakpoints - self.reserved
        if self.cache.goes_on and caching.caches_tail:
            most -= 1  # the end of the prompt is one of them
        theirs = may_hold_breakpoints(conversation)
        if theirs:
            most -= sum(block.own_breakpoint is not None for block in self._reader.blocks(conversation))
        if self._index is not None:
            found = self._index.breakpoints(conversation, most=max(0, most))
        else:
            wanted = end(conversation) if leaves_place else self.cache.row.places(conversation, self._tools)
            found = fewer(wanted, most)
        found = tuple(msgspec.structs.replace(each, ttl=self.cache.ttl) for each in found)
        return longest_first(found, self._reader.blocks(conversation), caching) if theirs else found

    def _anchors(self, conversation: Conversation) -> tuple[Breakpoint, ...]:
        """What a routing key stands for: how prompts that belong together begin, wherever they end by now."""
        if self.cache.goes_on:
            return beginning(conversation, self._tools)
        if self._index is not None:
            return self._index.breakpoints(conversation)
        return tuple(self.cache.row.places(conversation, self._tools))
