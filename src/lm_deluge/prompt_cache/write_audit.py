"""Which writes to a provider's cache were for nothing, and what they cost.

A write costs more than plain input, so it pays only if somebody reads it. Two kinds never do: writing what another
request had written already, and writing what no other request of the run reads.

Providers say how many tokens were read and written, never which, and lengths of prefixes are estimates. So a prefix has
the bounds that the estimates leave, and a loss is counted only where it is one at either end of them: this figure
blames, and is rather too low than wrong.
"""

import threading
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from lm_deluge._locks import renewed
from lm_deluge.models import Rates
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache import Prefix
from lm_deluge.prompt_cache.blocks import rough_tokens
from lm_deluge.providers import FORMATS
from lm_deluge.tool import Tool
from lm_deluge.usage import Usage

__all__ = ["WriteAudit", "WriteLog"]

_CAPACITY = 65_536

_FORMAT = FORMATS["anthropic"]  # tools are about as long in any other
_LOW, _HIGH = 0.7, 1.3  # what an estimate may be off: tokenizers differ from four bytes, by language and kind of text
_FAR_OFF = 2.0  # a whole prompt that is off by more has something that cannot be estimated, such as a packed file
_NEARLY = 0.9  # a read up to here has reached a prefix: what is left is too little to tell from rounding


class _Seen(NamedTuple):
    """A prefix in one answer.

    Attributes:
        prefix: the prefix.
        least: how many of the provider's tokens it has at least; 0 if it may be too short to be written at all.
        is_read: whether the request read it, as far as can be told. Else it wrote at least the end of it.
        may_be_all: whether it may be just this that the request read.
    """

    prefix: Prefix
    least: float
    is_read: bool
    may_be_all: bool


class _Entry(msgspec.Struct, gc=False):
    """What is known of an entry of the provider's cache.

    Attributes:
        since: when the first request was sent that wrote or read it.
        until: when it ends.
        seconds: how long it lives after each use.
        shortest, longest: of the reads that may have been of just this; 0 as long as there are none.
        is_written: whether a write of it is known.
        is_shared: whether a second request had its prefix.
    """

    since: float
    until: float
    seconds: float
    shortest: int = 0
    longest: int = 0
    is_written: bool = False
    is_shared: bool = False


class WriteLog:
    """The entries that a client's requests wrote and read. Shared by its runs, in all threads."""

    def __init__(self) -> None:
        self._lock = renewed(threading.Lock())
        self._entries: dict[bytes, _Entry] = {}

    def __len__(self) -> int:
        """Entries that are known."""
        return len(self._entries)

    def add(self, prefixes: Sequence[_Seen], read: int, started: float) -> tuple[int, int]:
        """Take in an answer. Returns how many of its prefixes another request had, and up to which it wrote them again.

        Args:
            prefixes: its own, the shortest first.
            read: how many tokens it read.
            started: when its request was sent.
        """
        known = again = 0
        is_needed = False
        with self._lock:
            for count, seen in enumerate(prefixes, start=1):
                entry, is_new = self._use(seen.prefix, started)
                if not is_new:
                    entry.is_shared = True
                    known = count
                if not seen.is_read:
                    # Answers come in any order. The writer that is seen first counts as the one that was needed; and
                    # one that is needed for a part is not blamed for the rest.
                    is_needed = is_needed or not entry.is_written
                    if not is_needed:
                        again = count
                    entry.is_written = True
                if seen.may_be_all:
                    entry.longest = max(read, entry.longest)
            if known and prefixes[known - 1].may_be_all and not any(seen.may_be_all for seen in prefixes[known:]):
                entry = self._entries[prefixes[known - 1].prefix.id]
                entry.shortest = min(read, entry.shortest or read)
            while len(self._entries) > _CAPACITY:
                del self._entries[next(iter(self._entries))]
        return known, again

    def length(self, id: bytes) -> tuple[int, int]:
        """How long a prefix is at least and at most, by what was read of it; 0 where that is not known."""
        with self._lock:
            entry = self._entries.get(id)
        return (0, 0) if entry is None else (entry.shortest, entry.longest)

    def is_shared(self, id: bytes) -> bool:
        """Whether a second request had a prefix while its entry was alive."""
        with self._lock:
            entry = self._entries.get(id)
        return entry is not None and entry.is_shared

    def _use(self, prefix: Prefix, started: float) -> tuple[_Entry, bool]:
        """The entry that a request of this time wrote or read, and whether it is a new one."""
        entry = self._entries.pop(prefix.id, None)
        if entry is not None and started + prefix.seconds <= entry.since:  # the answer took that long to come
            self._entries[prefix.id] = entry
            return _Entry(started, started + prefix.seconds, prefix.seconds), True
        is_new = entry is None or started >= entry.until  # one that has ended is another
        if entry is None or is_new:
            shortest, longest = (0, 0) if entry is None else (entry.shortest, entry.longest)
            entry = _Entry(started, started + prefix.seconds, prefix.seconds, shortest, longest)
        entry.since = min(entry.since, started)
        entry.seconds = min(entry.seconds, prefix.seconds)
        entry.until = max(entry.until, started + entry.seconds)
        self._entries[prefix.id] = entry
        return entry, is_new


class _Again(msgspec.Struct, gc=False):
    """Requests that wrote a prefix again. How long it is may become known only later.

    Attributes:
        least: tokens that it has at least.
        price: dollars that all of them together lost for each of its tokens.
        spared: what of that is too much, because they had read a part.
    """

    least: float = 0.0
    price: float = 0.0
    spared: float = 0.0

    def cost(self, tokens: int) -> float:
        """What they lost. The length of the prefix is given where it is known, else 0."""
        return self.price * (tokens or self.least) - self.spared


class _Unread(NamedTuple):
    """Tokens of one prompt that no other has read, from one to another, and what each cost above plain input.

    Attributes:
        ids: the prefixes that end there, the shortest first. Without any, no other can be seen to share it.
    """

    start: int
    end: int
    price: float
    ids: tuple[bytes, ...]

    @property
    def cost(self) -> float:
        return self.price * max(0, self.end - self.start)


class WriteAudit:
    """What the writes of one run wasted.

    Args:
        log: the client's.
        goes_on: whether later runs continue these prompts, so that what is not read now is read then.
        tools: those that all prompts have.
    """

    def __init__(self, log: WriteLog, *, goes_on: bool, tools: Sequence[Tool] = ()) -> None:
        self._log = log
        self._goes_on = goes_on
        self._tools_tokens = sum(rough_tokens(tool, _FORMAT) for tool in tools)
        self._again: dict[bytes, _Again] = {}
        self._unread: dict[bytes, _Unread] = {}  # by the shortest prefix
        self._ends = 0.0  # dollars of ends of prompts without a breakpoint, so that who reads them is not seen
        self._end_tokens = self._end_reads = 0  # tokens of those, and of reads that may have been of those
        self._requests = 0
        self._forgotten = 0.0

    def add(
        self,
        prefixes: Sequence[Prefix],
        usage: Usage,
        rates: Rates,
        *,
        started: float,
        prompt: Conversation | None = None,
    ) -> None:
        """Take in an answer.

        Args:
            prefixes: those of its breakpoints, the shortest first.
            usage: its tokens.
            rates: its prices.
            started: when it was sent, on the monotonic clock.
            prompt: what was asked. The provider may have cached its end; without it, nothing but the prefixes was.
        """
        read, written = usage.cache_read_tokens, usage.cache_write_tokens
        if not read and not written:
            return
        self._requests += 1
        whole = self._tokens(prompt) if prompt is not None and prefixes else 0
        seen = _seen(prefixes, usage, whole)
        known, again = self._log.add(seen, read, started)
        if again:
            self._add_again(seen[again - 1], usage, rates)
        if self._goes_on:
            return
        if read and not any(each.may_be_all for each in seen):
            self._end_reads += read
        # Others read the prompt up to here. Where that cannot be told, all of it may be read.
        reach = (self._log.length(seen[known - 1].prefix.id)[1] or read + written) if known else read
        for each in seen[:known]:
            self._is_read(each.prefix.id, reach)
        if (new := read + written - max(read, reach)) > 0:
            price = (rates.cost(usage) - rates.cost(_moved(usage, new, read=False))) / new
            ids = tuple(each.prefix.id for each in seen[known:])
            self._keep(_Unread(read + written - new, read + written, price, ids))

    def wasted_cost(self) -> float:
        """US dollars that were paid for writes and brought nothing: at least so many, by what is known now."""
        lost = self._forgotten + sum(each.cost(self._log.length(id)[0]) for id, each in self._again.items())
        if self._requests < 2:  # what a single request wrote, no other could have read
            return lost
        if self._end_tokens:
            lost += self._ends * max(0.0, 1 - self._end_reads / self._end_tokens)
        return lost + sum(self._cost(each) for each in self._unread.values())

    def _tokens(self, prompt: Conversation) -> int:
        parts = (part for message in prompt.messages for part in message.parts)
        return self._tools_tokens + sum(rough_tokens(part, _FORMAT) for part in parts)

    def _add_again(self, seen: _Seen, usage: Usage, rates: Rates) -> None:
        price = rates.cost(usage) - rates.cost(_moved(usage, 1, read=True))
        again = self._again.setdefault(seen.prefix.id, _Again())
        again.least = max(again.least, seen.least)
        again.price += price
        again.spared += price * usage.cache_read_tokens
        while len(self._again) > _CAPACITY:
            id = next(iter(self._again))
            self._forgotten += self._again.pop(id).cost(self._log.length(id)[0])

    def _is_read(self, id: bytes, reach: int) -> None:
        """Somebody has the prefix too, so the prompt that was the first to have it is unread only behind it."""
        unread = self._unread.pop(id, None)
        if unread is not None:
            self._keep(unread._replace(start=max(unread.start, reach), ids=unread.ids[1:]))

    def _keep(self, unread: _Unread) -> None:
        if unread.start >= unread.end:
            return
        if not unread.ids:
            self._ends += unread.cost
            self._end_tokens += unread.end - unread.start
            return
        before = self._unread.pop(unread.ids[0], None)
        self._unread[unread.ids[0]] = unread
        if before is not None:  # an entry that has ended
            self._forgotten += self._cost(before)
        if len(self._unread) > _CAPACITY:
            self._forgotten += self._cost(self._unread.pop(next(iter(self._unread))))

    def _cost(self, unread: _Unread) -> float:
        return 0.0 if any(self._log.is_shared(id) for id in unread.ids) else unread.cost


def _seen(prefixes: Sequence[Prefix], usage: Usage, whole: int) -> list[_Seen]:
    """The bounds of prefixes: of what was read and written, each has its share of the estimates, give or take.

    Args:
        prefixes: the shortest first.
        usage: the tokens of the answer.
        whole: about how many tokens the whole prompt has; 0 if nothing but the prefixes was cached.
    """
    if not prefixes:
        return []
    read = usage.cache_read_tokens
    cached = read + usage.cache_write_tokens
    # What follows the last of them was either charged as plain input, or its end was cached too.
    last = prefixes[-1].tokens
    end = last + max(0.0, whole - last - usage.input_tokens / _LOW)
    is_far_off = not end / _FAR_OFF <= cached <= end * _FAR_OFF
    found = []
    for prefix in prefixes:
        least = most = float(cached)
        rest = end - prefix.tokens
        if rest > 0:
            ratio = rest / max(1, prefix.tokens)
            least = 0.0 if is_far_off else cached / (1 + ratio * _HIGH / _LOW)
            most = cached if is_far_off else cached / (1 + ratio * _LOW / _HIGH)
        if least < prefix.minimum:
            least = 0.0
        is_read = read > 0 and read >= _NEARLY * least
        may_be_all = is_read and read <= most and (rest > 0 or read == cached)
        found.append(_Seen(prefix, least, is_read, may_be_all))
    return found


def _moved(usage: Usage, tokens: int, *, read: bool) -> Usage:
    """The same usage, had so many of its written tokens been read, or been plain input."""
    for_an_hour = min(usage.cache_write_1h_tokens, usage.cache_write_tokens - tokens)
    return msgspec.structs.replace(
        usage,
        cache_write_tokens=usage.cache_write_tokens - tokens,
        cache_write_1h_tokens=for_an_hour,
        cache_read_tokens=usage.cache_read_tokens + tokens * read,
        input_tokens=usage.input_tokens + tokens * (not read),
    )
