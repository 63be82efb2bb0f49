"""OpenAI's prompt cache, simulated by the two sets of rules of its prompt caching guide.

Before GPT-5.6, every prompt of 1,024 tokens or more is written, free of charge, and a later prompt reads its longest
common prefix in steps of 128 tokens. An entry lives ten minutes after its last use here (the guide gives a range), or a
day with ``prompt_cache_retention: "24h"``.

From GPT-5.6 on, prefixes are written, and billed, at breakpoints alone: the explicit ones and, unless ``mode`` is
``explicit``, an implicit one at the end of the last message; at most four, the latest. A request reads the longest
prefix that ends at one of its explicit breakpoints (the latest 80) or, unless ``mode`` is ``explicit``, at the end of
one of its last 21 messages. An entry lives thirty minutes after its last use; the guide promises at least that.

Model, tools, response format, reasoning effort, verbosity and ``prompt_cache_key`` separate caches under both.
"""

import hashlib

import msgspec
from msgspec import UNSET

from lm_deluge.testing.openai_chat import shapes
from lm_deluge.testing.openai_chat.models import has_explicit_caching
from lm_deluge.testing.openai_chat.prompt import pieces, prompt_tokens, settings_digest
from lm_deluge.testing.tokens import BYTES_PER_TOKEN
from lm_deluge.testing.values import CacheOutcome

__all__ = ["Lookup", "PromptCache"]

_MINIMUM = 1_024
_STEP = 128
_STEP_BYTES = _STEP * BYTES_PER_TOKEN
_RETENTION = {"in_memory": 600.0, "24h": 86_400.0}
_BREAKPOINT_SECONDS = 1_800.0
_WRITES = 4
_EXPLICIT_LOOKBACK = 80
_MESSAGE_LOOKBACK = 21
_PURGE_AT = 65_536


class Lookup(msgspec.Struct, frozen=True):
    """The result of a read, and what the request will write once its answer begins."""

    outcome: CacheOutcome
    keys: tuple[bytes, ...] = ()
    expires: float = 0.0
    started: float = 0.0


class PromptCache:
    """The entries of all accounts; an account is told by its credential."""

    def __init__(self) -> None:
        self._expires: dict[bytes, float] = {}

    def clear(self) -> None:
        self._expires.clear()

    def look_up(self, request: shapes.ChatRequest, *, credential: str, now: float) -> Lookup:
        """Read for a request that starts at ``now`` (seconds); what it reads is refreshed."""
        total = prompt_tokens(request)
        if total < _MINIMUM:
            return Lookup(CacheOutcome(uncached=total))
        if has_explicit_caching(request.model):
            return self._at_breakpoints(request, total, credential, now)
        return self._in_steps(request, total, credential, now)

    def publish(self, lookup: Lookup) -> None:
        """Make a request's prefixes readable. Called when its answer begins."""
        self._keep(lookup.keys, lookup.expires)
        if len(self._expires) > _PURGE_AT:
            self._expires = {key: each for key, each in self._expires.items() if each > lookup.started}

    def _in_steps(self, request: shapes.ChatRequest, total: int, credential: str, now: float) -> Lookup:
        chain = hashlib.blake2b(settings_digest(request, credential), digest_size=16)
        data = b"".join(piece.data for piece in pieces(request))
        keys = []
        for start in range(0, len(data) - _STEP_BYTES + 1, _STEP_BYTES):
            chain.update(data[start : start + _STEP_BYTES])
            keys.append(chain.digest())
        hit = max((count for count, key in enumerate(keys, start=1) if self._expires.get(key, 0.0) > now), default=0)
        read = hit * _STEP if hit * _STEP >= _MINIMUM else 0
        expires = now + _RETENTION[request.prompt_cache_retention or "in_memory"]
        self._keep(keys[:hit], expires)
        return Lookup(CacheOutcome(uncached=total - read, read=read), tuple(keys), expires, now)

    def _at_breakpoints(self, request: shapes.ChatRequest, total: int, credential: str, now: float) -> Lookup:
        implicit = request.prompt_cache_options is UNSET or request.prompt_cache_options.mode == "implicit"
        chain = hashlib.blake2b(settings_digest(request, credential), digest_size=16)
        breakpoints: list[tuple[int, bytes]] = []
        ends: list[tuple[int, bytes]] = []
        tokens = 0
        for piece in pieces(request):
            chain.update(piece.data)
            tokens += piece.tokens
            if piece.has_breakpoint:
                breakpoints.append((tokens, chain.digest()))
            if piece.ends_message:
                ends.append((tokens, chain.digest()))
        candidates = breakpoints[-_EXPLICIT_LOOKBACK:] + (ends[-_MESSAGE_LOOKBACK:] if implicit else [])
        read, key = max((each for each in candidates if self._expires.get(each[1], 0.0) > now), default=(0, b""))
        expires = now + _BREAKPOINT_SECONDS
        if read:
            self._keep([key], expires)
        writes = [*breakpoints[-(_WRITES - 1) :], ends[-1]] if implicit else breakpoints[-_WRITES:]
        writes = [each for each in writes if each[0] > read and each[0] >= _MINIMUM]
        written = max((end for end, _ in writes), default=read) - read
        outcome = CacheOutcome(uncached=total - read - written, read=read, write_5m=written)
        return Lookup(outcome, tuple(key for _, key in writes), expires, now)

    def _keep(self, keys: "list[bytes] | tuple[bytes, ...]", expires: float) -> None:
        for key in keys:
            self._expires[key] = max(expires, self._expires.get(key, 0.0))
