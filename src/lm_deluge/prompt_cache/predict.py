"""What a provider's prompt cache will do with planned requests, and so what they will cost.

The rules are those of the providers' guides. Nothing is sent: a request is a chain of blocks with a few marks, and an
entry is the digest of a chain and a time until which it lives.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat

import msgspec

from lm_deluge.models import Caching, Model
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache.marked import minimum_of
from lm_deluge.prompt_cache.planner import CachePlan
from lm_deluge.prompt_cache.reading import Block, Place, Reader
from lm_deluge.tool import Tool
from lm_deluge.usage import Usage

__all__ = ["Predictor", "predict"]

_HOUR = 3_600.0
_MESSAGE_ENDS = 21  # OpenAI, prompt caching guide: the last message and up to 20 before it
_STEP = 128  # OpenAI, the same: earlier models count cached tokens in multiples of this
_PURGE_AT = 65_536  # entries; those that have ended are forgotten then


def predict(
    requests: Iterable[tuple[Conversation, CachePlan]],
    model: Model,
    tools: Sequence[Tool] = (),
    *,
    scope: bytes = b"",
    count: Callable[[Block], int] | None = None,
    tokens_per_message: int = 0,
    started: Iterable[float] | None = None,
    at_once: int = 1,
) -> list[Usage]:
    """The prompt tokens of each request, by what the provider does with them. There are no generated ones.

    Args:
        requests: prompts with their plans, in the order in which they are sent. Media have to be loaded.
        model, tools, scope, count, tokens_per_message, at_once: as for ``Predictor``.
        started: when each is sent, in seconds; all at once if not given.
    """
    provider = Predictor(model, tools, scope=scope, count=count, tokens_per_message=tokens_per_message, at_once=at_once)
    times = repeat(0.0) if started is None else started
    return [provider.send(conversation, plan, now) for (conversation, plan), now in zip(requests, times, strict=False)]


class Predictor:
    """A provider's prompt cache, as its guide describes it, and what requests find there.

    Of a provider that promises nothing it tells what would be read on a good day.

    Args:
        model: where requests go.
        tools: the tools that all of them have.
        scope: whatever else separates caches, as for ``Planner``.
        count: tokens of a block; by default about one for four bytes.
        tokens_per_message: tokens that each message has beside its blocks.
        at_once: how many are under way at a time. What one writes can be read by the one that comes so many later.
        waits: whether a request waits while another that is under way writes a prefix which both have marked.
        begins_after: seconds from a request to the beginning of its answer, whatever else is under way.
    """

    def __init__(
        self,
        model: Model,
        tools: Sequence[Tool] = (),
        *,
        scope: bytes = b"",
        count: Callable[[Block], int] | None = None,
        tokens_per_message: int = 0,
        at_once: int = 1,
        waits: bool = False,
        begins_after: float = math.inf,
    ) -> None:
        self._reader = Reader(model, tools, scope=scope)
        self._caching = model.caching
        self._cache = _cache_for(model)
        self._count = count
        self._tokens_per_message = tokens_per_message
        self._at_once = max(1, at_once)
        self._waits = waits
        self._begins_after = begins_after
        self._under_way: deque[_Sent] = deque()
        self._writing: Counter[bytes] = Counter()

    def send(self, conversation: Conversation, plan: CachePlan, now: float = 0.0) -> Usage:
        """The prompt tokens of the next request, which is sent at ``now``, in seconds."""
        request = _lay_out(self._reader, conversation, plan, self._caching, self._count, self._tokens_per_message)
        while self._under_way and (
            len(self._under_way) >= self._at_once or self._under_way[0].started + self._begins_after <= now
        ):
            self._begin_oldest()
        if self._waits:
            while any(digest in self._writing for digest in request.shared):
                self._begin_oldest()
        usage, sent = self._cache.look_up(request, now)
        self._under_way.append(sent)
        self._writing.update(digest for digest, _ in sent.entries)
        return usage

    def finish(self) -> None:
        """All that is under way is answered."""
        while self._under_way:
            self._begin_oldest()

    def _begin_oldest(self) -> None:
        """The answer to the request that was sent longest ago begins."""
        sent = self._under_way.popleft()
        self._cache.publish(sent)
        for digest, _ in sent.entries:
            self._writing[digest] -= 1
            if not self._writing[digest]:
                del self._writing[digest]


class _Position(msgspec.Struct, gc=False):
    """A block as the cache sees it: the digest of all up to it, and how many tokens that is."""

    digest: bytes
    end: int
    run: str | None
    mark: float | None = None  # how long its entry lives, in seconds
    ends_message: bool = False


class _Request(msgspec.Struct, frozen=True):
    positions: list[_Position]
    caches_tail: bool
    shared: list[bytes]  # digests of the marked prefixes

    @property
    def total(self) -> int:
        return self.positions[-1].end if self.positions else 0


class _Sent(msgspec.Struct, frozen=True):
    """What can be read once an answer has begun: digests and lifetimes, from the start of the request."""

    entries: list[tuple[bytes, float]]
    started: float


def _lay_out(
    reader: Reader,
    conversation: Conversation,
    plan: CachePlan,
    caching: Caching,
    count: Callable[[Block], int] | None,
    tokens_per_message: int,
) -> _Request:
    marks = {(mark.section, mark.index, mark.part): mark.ttl for mark in plan.breakpoints}
    salt = (plan.prompt_cache_key or "").encode()
    positions: list[_Position] = []
    shared: list[bytes] = []
    markable: _Position | None = None
    message: Place | None = None
    tokens = 0
    for block, digest, size in reader.chain(conversation):
        if block.message != message:
            tokens += tokens_per_message * (block.role != "tools")
            if positions:
                positions[-1].ends_message = True
            message = block.message
        tokens += size if count is None else count(block)
        positions.append(position := _Position(salt + digest, tokens, block.run))
        if reader.takes_mark(block):
            markable = position
        if block.users_mark is not None:
            position.mark = caching.seconds(caching.ttl(block.users_mark))
        if block.place in marks and markable is not None:
            shared.append(markable.digest)
            if caching.takes_marks:
                markable.mark = max(markable.mark or 0.0, caching.seconds(caching.ttl(marks[block.place])))
    if positions:
        positions[-1].ends_message = True
    if plan.automatic_cache and markable is not None and caching.marks == "cache_control":
        markable.mark = markable.mark or caching.seconds(caching.ttl(plan.cache_ttl))
    has_marks = any(position.mark is not None for position in positions)
    tail = not has_marks if plan.cache_tail is None else plan.cache_tail
    return _Request(positions, caching.caches_tail and tail, shared)


class _Cache:
    """Entries of a provider that does nothing."""

    def __init__(self, model: Model) -> None:
        self.caching = model.caching
        self.minimum = minimum_of(model)
        self._lives: dict[bytes, tuple[float, float]] = {}  # until when, and for how long after each use
        self._purge_at = _PURGE_AT

    def look_up(self, request: _Request, now: float) -> tuple[Usage, _Sent]:
        """What a request that starts at ``now`` reads and writes."""
        return Usage(input_tokens=request.total), _Sent([], now)

    def publish(self, sent: _Sent) -> None:
        """An answer has begun."""
        for digest, seconds in sent.entries:
            if sent.started + seconds > self._lives.get(digest, (0.0, 0.0))[0]:
                self._lives[digest] = (sent.started + seconds, seconds)
        if len(self._lives) > self._purge_at:
            self._lives = {digest: life for digest, life in self._lives.items() if life[0] > sent.started}
            self._purge_at = max(_PURGE_AT, 2 * len(self._lives))  # where all of them live there is nothing to gain

    def is_alive(self, position: _Position, now: float) -> bool:
        return now < self._lives.get(position.digest, (float("-inf"), 0.0))[0]

    def renew(self, position: _Position, now: float) -> None:
        if self.is_alive(position, now):
            until, seconds = self._lives[position.digest]
            self._lives[position.digest] = (max(until, now + seconds), seconds)


class _LookBackCache(_Cache):
    """Anthropic's: written at marks, read at marks and some blocks before them."""

    def look_up(self, request: _Request, now: float) -> tuple[Usage, _Sent]:
        positions = request.positions
        marked = [at for at, position in enumerate(positions) if position.mark is not None]
        hit = max((self._find(positions, at, now) for at in marked), default=-1)
        for at in marked:
            if at < hit:
                self.renew(positions[at], now)
        if hit >= 0:
            self.renew(positions[hit], now)
        read = reached = positions[hit].end if hit >= 0 else 0
        hours = 0
        entries = []
        for at in marked:
            position = positions[at]
            if at > hit and position.end >= self.minimum:
                seconds = position.mark or 0.0
                hours += (position.end - reached) * (seconds >= _HOUR)
                reached = position.end
                entries.append((position.digest, seconds))
        usage = Usage(
            input_tokens=request.total - reached,
            cache_read_tokens=read,
            cache_write_tokens=reached - read,
            cache_write_1h_tokens=hours,
        )
        return usage, _Sent(entries, now)

    def _find(self, positions: list[_Position], mark: int, now: float) -> int:
        seen, run = 0, None
        for at in range(mark, -1, -1):
            here = positions[at].run if self.caching.runs_count_once else None
            seen += here is None or here != run
            run = here
            if seen > (self.caching.lookback or 1):
                break
            if self.is_alive(positions[at], now):
                return at
        return -1


class _BreakpointCache(_Cache):
    """OpenAI's from GPT-5.6 on: marks alone, or marks and the ends of messages."""

    def look_up(self, request: _Request, now: float) -> tuple[Usage, _Sent]:
        total = request.total
        if total < self.minimum:
            return Usage(input_tokens=total), _Sent([], now)
        marks = [position for position in request.positions if position.mark is not None]
        ends = [position for position in request.positions if position.ends_message] if request.caches_tail else []
        found = [each for each in marks + ends[-_MESSAGE_ENDS:] if self.is_alive(each, now)]
        hit = max(found, key=lambda each: each.end, default=None)
        read = 0 if hit is None else hit.end
        if hit is not None:
            self.renew(hit, now)
        written = marks[-(self.caching.max_marks - 1) :] + ends[-1:] if ends else marks[-self.caching.max_marks :]
        entries = [each for each in written if each.end > read and each.end >= self.minimum]
        reached = max((each.end for each in entries), default=read)
        usage = Usage(input_tokens=total - reached, cache_read_tokens=read, cache_write_tokens=reached - read)
        default = self.caching.default_lifetime
        return usage, _Sent([(each.digest, each.mark or default) for each in entries], now)


class _AutomaticCache(_Cache):
    """What a prompt shares with an earlier one is read, whole blocks of it, and writing is free."""

    def look_up(self, request: _Request, now: float) -> tuple[Usage, _Sent]:
        read = max((each.end for each in request.positions if self.is_alive(each, now)), default=0) // _STEP * _STEP
        read = read if read >= self.minimum else 0
        seconds = self.caching.default_lifetime
        entries = [(each.digest, seconds) for each in request.positions]
        return Usage(input_tokens=request.total - read, cache_read_tokens=read), _Sent(entries, now)


def _cache_for(model: Model) -> _Cache:
    caching = model.caching
    if caching.marks == "prompt_cache_breakpoint":
        return _BreakpointCache(model)
    if caching.takes_marks:
        return _LookBackCache(model)
    return _AutomaticCache(model) if caching.takes_key else _Cache(model)
