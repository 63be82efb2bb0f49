"""Anthropic's prompt cache, simulated by the rules of its prompt caching guide.

A breakpoint writes an entry for the whole prefix up to its block. A read steps back from each breakpoint over at most
twenty positions and takes the longest prefix some earlier request wrote. Lifetimes run from the start of the request
that wrote or read an entry; an entry can be read once the answer of the request that wrote it has begun. Prefixes below
the model's minimum are skipped without an error.

Simplified: a breakpoint inside a tool result counts as one on the tool result; where the guide calls an invalidation
model-specific (thinking, effort) only the messages are lost, and where it names no level (output format) everything is;
the entries that server tools write on their own are left out.
"""

import hashlib
from typing import Any

import msgspec

from lm_deluge.testing.anthropic_messages import shapes
from lm_deluge.testing.anthropic_messages.models import minimum_cached_tokens
from lm_deluge.testing.anthropic_messages.prompt import Position, breakpoints
from lm_deluge.testing.values import CacheOutcome

__all__ = ["Lookup", "PromptCache"]

_LOOKBACK = 20
_SECONDS = {"5m": 300.0, "1h": 3600.0}
_PURGE_AT = 4_096


class _Entry(msgspec.Struct):
    seconds: float
    expires: float


class Lookup(msgspec.Struct, frozen=True):
    """The result of a read, and what the request will write once its answer begins."""

    outcome: CacheOutcome
    writes: tuple[tuple[bytes, float], ...] = ()
    started: float = 0.0


class PromptCache:
    """The entries of all workspaces; a workspace is told by its credential."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        self._entries.clear()

    def look_up(
        self, request: shapes.CountTokensRequest, sequence: list[Position], *, credential: str, now: float
    ) -> Lookup:
        """Read for a request that starts at ``now`` (seconds); what it reads is refreshed."""
        total = sum(position.tokens for position in sequence)
        places = _breakpoints(request, sequence)
        if not places:
            return Lookup(CacheOutcome(uncached=total))
        keys, ends = _prefixes(request, sequence, credential)

        hit = max((found for at in places if (found := self._read(at, sequence, keys, now)) is not None), default=-1)
        for at in {hit, *(at for at in places if at <= hit)} - {-1}:
            if (entry := self._alive(keys[at], now)) is not None:
                entry.expires = now + entry.seconds

        minimum = minimum_cached_tokens(request.model)
        read = reached = ends[hit] if hit >= 0 else 0
        written = {"5m": 0, "1h": 0}
        writes = []
        for at, ttl in sorted(places.items()):
            if at > hit and ends[at] >= minimum:
                written[ttl] += ends[at] - reached
                reached = ends[at]
                writes.append((keys[at], _SECONDS[ttl]))
        outcome = CacheOutcome(uncached=total - reached, read=read, write_5m=written["5m"], write_1h=written["1h"])
        return Lookup(outcome, tuple(writes), now)

    def publish(self, lookup: Lookup) -> None:
        """Make a request's writes readable. Called when its answer begins."""
        for key, seconds in lookup.writes:
            entry = self._entries.get(key)
            expires = lookup.started + seconds
            if entry is None or entry.expires < expires:
                self._entries[key] = _Entry(seconds, expires)
        if len(self._entries) > _PURGE_AT:
            self._entries = {key: each for key, each in self._entries.items() if each.expires > lookup.started}

    def _alive(self, key: bytes, now: float) -> _Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and now < entry.expires else None

    def _read(self, place: int, sequence: list[Position], keys: list[bytes], now: float) -> int | None:
        """The longest readable prefix within the look-back of one breakpoint."""
        seen, previous = 0, None
        for at in range(place, -1, -1):
            kind = _run(sequence[at])
            if kind is None or kind != previous:
                seen += 1
            previous = kind
            if seen > _LOOKBACK:
                return None
            if self._alive(keys[at], now) is not None:
                return at
        return None


def _run(position: Position) -> str | None:
    """Consecutive blocks of these kinds count as one position."""
    if isinstance(position.block, shapes.ToolUse):
        return "tool_use"
    return "tool_result" if isinstance(position.block, shapes.ToolResult) else None


def _breakpoints(request: shapes.CountTokensRequest, sequence: list[Position]) -> dict[int, str]:
    """The positions that carry a breakpoint and its lifetime, the automatic breakpoint included."""
    places = {at: found[-1][1] for at, position in enumerate(sequence) if (found := breakpoints(position))}
    if request.cache_control is not None:
        last = next((at for at in range(len(sequence) - 1, -1, -1) if sequence[at].cacheable), None)
        if last is not None:
            places.setdefault(last, request.cache_control.ttl)
    return places


def _prefixes(
    request: shapes.CountTokensRequest, sequence: list[Position], credential: str
) -> tuple[list[bytes], list[int]]:
    """For each position, the key of the prefix that ends there, and that prefix's tokens."""
    settings = _settings(request, sequence)
    chain = hashlib.blake2b(digest_size=16)
    _mix(chain, [credential, request.model, settings["tools"]])
    level = "tools"
    keys, ends, tokens = [], [], 0
    for position in sequence:
        if level == "tools" and position.level != "tools":
            _mix(chain, settings["system"])
            level = "system"
        if level == "system" and position.level == "messages":
            _mix(chain, settings["messages"])
            level = "messages"
        chain.update(position.digest)
        tokens += position.tokens
        keys.append(chain.digest())
        ends.append(tokens)
    return keys, ends


def _settings(request: shapes.CountTokensRequest, sequence: list[Position]) -> dict[str, Any]:
    """What else invalidates, by the level from which on everything is lost."""
    output = request.output_config or shapes.OutputConfig()
    blocks = [position.block for position in sequence if position.level == "messages"]
    inner = [each for block in blocks for each in _inner(block)]
    cites = any(getattr(getattr(each, "citations", None), "enabled", False) for each in (*blocks, *inner))
    images = any(isinstance(each, shapes.Image) for each in (*blocks, *inner))
    return {
        "tools": [output.format],
        "system": [cites, request.speed],
        "messages": [request.tool_choice, images, request.thinking, output.effort],
    }


def _inner(block: Any) -> list[Any]:
    content = getattr(block, "content", None)
    return content if isinstance(block, shapes.ToolResult) and isinstance(content, list) else []


def _mix(chain: "hashlib.blake2b", value: Any) -> None:
    chain.update(hashlib.blake2b(msgspec.json.encode(value), digest_size=16).digest())
