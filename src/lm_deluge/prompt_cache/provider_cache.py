"""What a provider's prompt cache will do with planned requests, and so what they will cost.

The rules are those of the providers' guides. Nothing is sent: a request is a chain of blocks with a few breakpoints,
and an entry is the digest of a chain and a time until which it lives.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from lm_deluge.models import Model
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache.blocks import Block, Place, run_of
from lm_deluge.prompt_cache.layout import Reader
from lm_deluge.prompt_cache.planner import CachePlan
from lm_deluge.prompt_cache.steps import STEP, Piece, Steps
from lm_deluge.tool import Tool
from lm_deluge.usage import Usage

__all__ = ["Entries", "Predictor"]

Entries: TypeAlias = Mapping[bytes, float]
"""Digests of prefixes, and how long their entries live after each use, in seconds."""

_HOUR = 3_600.0
_PURGE_AT = 65_536  # entries; those that have ended are forgotten then


class Predictor:
    """A provider's prompt cache, as its guide describes it, and what requests find there.

    Of a provider that promises nothing it tells what would be read on a good day.

    Args:
        model: where requests go.
        tools: the tools that all of them have.
        scope: anything else that separates caches, as for ``Planner``.
        count: tokens of a block; by default about one for four bytes.
        tokens_per_message: tokens that each message has beside its blocks.
    """

    def __init__(
        self,
        model: Model,
        tools: Sequence[Tool] = (),
        *,
        scope: bytes = b"",
        count: Callable[[Block], int] | None = None,
        tokens_per_message: int = 0,
    ) -> None:
        self._reader = Reader(model, tools, scope=scope)
        self._caching = model.caching
        self._cache = _cache_for(model)
        self._count = count
        self._tokens_per_message = tokens_per_message

    def look_up(self, conversation: Conversation, plan: CachePlan, now: float = 0.0) -> tuple[Usage, Entries]:
        """The prompt tokens of a request that is sent at ``now``, in seconds, and what it writes: see ``publish``."""
        return self._cache.look_up(self._lay_out(conversation, plan), now)

    def publish(self, entries: Entries, started: float = 0.0) -> None:
        """The answer has begun to a request that was sent at ``started``: what it wrote can be read."""
        self._cache.publish(entries, started)

    def _lay_out(self, conversation: Conversation, plan: CachePlan) -> "_Request":
        caching, steps = self._caching, self._cache.steps
        wanted = {each.place: each.ttl for each in plan.breakpoints}
        salt = (plan.prompt_cache_key or "").encode()
        positions: list[_Position] = []
        stepped: list[bytes] = []
        carrier: _Position | None = None
        message: Place | None = None
        for piece in self._pieces(conversation):
            block = piece.block
            if steps is not None:
                stepped += steps.within(piece, salt=salt)
            if positions and block.message != message:
                positions[-1].ends_message = True
            message = block.message
            positions.append(position := _Position(salt + piece.digest, piece.end, run_of(block.value)))
            if self._reader.takes_breakpoint(block):
                carrier = position
            if block.own_breakpoint is not None:
                position.seconds = caching.seconds(caching.ttl(block.own_breakpoint))
            if block.place in wanted and carrier is not None and caching.takes_breakpoints:
                carrier.seconds = max(carrier.seconds or 0.0, caching.seconds(caching.ttl(wanted[block.place])))
        if positions:
            positions[-1].ends_message = True
        if plan.automatic_cache and carrier is not None and not caching.caches_tail:
            carrier.seconds = carrier.seconds or caching.seconds(caching.ttl(plan.cache_ttl))
        has_breakpoints = any(position.seconds is not None for position in positions)
        tail = not has_breakpoints if plan.cache_tail is None else plan.cache_tail
        return _Request(positions, stepped, caching.caches_tail and tail, bool(salt))

    def _pieces(self, conversation: Conversation) -> Iterator[Piece]:
        """The blocks of a prompt among its tokens."""
        message: Place | None = None
        before = b""
        tokens = 0
        for block, digest, size in self._reader.chain(conversation):
            opening = self._tokens_per_message * (block.role != "tools" and block.message != message)
            message = block.message
            end = tokens + opening + (size if self._count is None else self._count(block))
            yield Piece(block, before, digest, tokens, opening, end)
            before, tokens = digest, end


class _Position(msgspec.Struct, gc=False):
    """A block as the cache sees it: the digest of all up to it, and how many tokens that is."""

    digest: bytes
    end: int
    run: str | None
    seconds: float | None = None  # how long an entry lives, where there is a breakpoint
    ends_message: bool = False


class _Request(msgspec.Struct, frozen=True):
    """A prompt and its plan as the cache sees them.

    Attributes:
        positions: its blocks.
        steps: digests at each whole step, for caches that go by those.
        caches_tail: whether the end is cached without a breakpoint.
        has_key: whether there is a routing key.
    """

    positions: list[_Position]
    steps: list[bytes]
    caches_tail: bool
    has_key: bool

    @property
    def total(self) -> int:
        return self.positions[-1].end if self.positions else 0


class _Cache:
    """Entries of a provider that does nothing."""

    steps: Steps | None = None

    def __init__(self, model: Model) -> None:
        self.caching = model.caching
        self.minimum = model.cache_minimum
        self._lives: dict[bytes, tuple[float, float]] = {}  # until when, and for how long after each use
        self._purge_at = _PURGE_AT

    def look_up(self, request: _Request, now: float) -> tuple[Usage, Entries]:
        """What a request that starts at ``now`` reads and writes, and which entries there are once it has begun."""
        return Usage(input_tokens=request.total), {}

    def publish(self, entries: Entries, started: float) -> None:
        """An answer has begun."""
        life = (0.0, 0.0)
        for digest, seconds in entries.items():
            if seconds != life[1]:
                life = (started + seconds, seconds)  # one for all of them
            if life[0] > self._lives.get(digest, (0.0, 0.0))[0]:
                self._lives[digest] = life
        if len(self._lives) > self._purge_at:
            self._lives = {digest: life for digest, life in self._lives.items() if life[0] > started}
            self._purge_at = max(_PURGE_AT, 2 * len(self._lives))  # where all of them live there is nothing to gain

    def is_alive(self, digest: bytes, now: float) -> bool:
        return now < self._lives.get(digest, (float("-inf"), 0.0))[0]

    def renew(self, digests: Iterable[bytes], now: float) -> None:
        for digest in digests:
            if self.is_alive(digest, now):
                until, seconds = self._lives[digest]
                self._lives[digest] = (max(until, now + seconds), seconds)


class _LookBackCache(_Cache):
    """Anthropic's: written at breakpoints, read there and at some blocks before."""

    def look_up(self, request: _Request, now: float) -> tuple[Usage, Entries]:
        positions = request.positions
        ends = [at for at, position in enumerate(positions) if position.seconds is not None]
        hit = max((self._find(positions, at, now) for at in ends), default=-1)
        if hit >= 0:
            self.renew([*(positions[at].digest for at in ends if at < hit), positions[hit].digest], now)
        read = reached = positions[hit].end if hit >= 0 else 0
        hours = 0
        entries = {}
        for at in ends:
            position = positions[at]
            if at > hit and position.end >= self.minimum:
                seconds = position.seconds or 0.0
                hours += (position.end - reached) * (seconds >= _HOUR)
                reached = position.end
                entries[position.digest] = seconds
        usage = Usage(
            input_tokens=request.total - reached,
            cache_read_tokens=read,
            cache_write_tokens=reached - read,
            cache_write_1h_tokens=hours,
        )
        return usage, entries

    def _find(self, positions: list[_Position], end: int, now: float) -> int:
        seen, run = 0, None
        for at in range(end, -1, -1):
            here = positions[at].run if self.caching.runs_count_once else None
            seen += here is None or here != run
            run = here
            if seen > (self.caching.lookback or 1):
                break
            if self.is_alive(positions[at].digest, now):
                return at
        return -1


class _BreakpointCache(_Cache):
    """OpenAI's from GPT-5.6 on: breakpoints alone, or those and the ends of messages."""

    def look_up(self, request: _Request, now: float) -> tuple[Usage, Entries]:
        total = request.total
        if total < self.minimum:
            return Usage(input_tokens=total), {}
        own = [position for position in request.positions if position.seconds is not None]
        ends = [position for position in request.positions if position.ends_message] if request.caches_tail else []
        found = [each for each in own + ends[-self.caching.message_lookback :] if self.is_alive(each.digest, now)]
        hit = max(found, key=lambda each: each.end, default=None)
        read = 0 if hit is None else hit.end
        if hit is not None:
            self.renew([hit.digest], now)
        most = self.caching.max_breakpoints
        written = own[-(most - 1) :] + ends[-1:] if ends else own[-most:]
        entries = [each for each in written if each.end > read and each.end >= self.minimum]
        reached = max((each.end for each in entries), default=read)
        usage = Usage(input_tokens=total - reached, cache_read_tokens=read, cache_write_tokens=reached - read)
        default = self.caching.default_lifetime
        return usage, {each.digest: each.seconds or default for each in entries}


class _AutomaticCache(_Cache):
    """What a prompt and an earlier one begin with is read, in whole steps, and writing is free."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.steps = Steps()

    def look_up(self, request: _Request, now: float) -> tuple[Usage, Entries]:
        total, steps = request.total, request.steps
        if total < self.minimum or (self.caching.key_required and not request.has_key):
            return Usage(input_tokens=total), {}
        hit = next((count for count in range(len(steps), 0, -1) if self.is_alive(steps[count - 1], now)), 0)
        self.renew(steps[:hit], now)
        new = [digest for digest in steps[hit:] if not self.is_alive(digest, now)]
        read = hit * STEP if hit * STEP >= self.minimum else 0
        usage = Usage(input_tokens=total - read, cache_read_tokens=read)
        return usage, dict.fromkeys(new, self.caching.default_lifetime)


def _cache_for(model: Model) -> _Cache:
    caching = model.caching
    if caching.caches_tail:
        return _BreakpointCache(model)
    if caching.takes_breakpoints:
        return _LookBackCache(model)
    return _AutomaticCache(model) if caching.takes_key else _Cache(model)
