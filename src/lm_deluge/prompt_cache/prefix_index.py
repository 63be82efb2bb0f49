"""Prefixes that many prompts share, found while the prompts come in.

Every prompt is a chain of blocks, so prompts form a tree, and a breakpoint belongs where branches part: on the last
block that several prompts have in common. Behind it each goes its own way, and what is written there is never read.
"""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

from lm_deluge._locks import renewed
from lm_deluge.models import Model
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache.blocks import Link
from lm_deluge.prompt_cache.layout import Reader
from lm_deluge.prompt_cache.prefix import least_of
from lm_deluge.request import Breakpoint
from lm_deluge.tool import Tool

__all__ = ["PrefixIndex", "PrefixIndexes"]


_Place: TypeAlias = tuple[int, Link]
"""Where a breakpoint may go, behind the tokens up to it."""


class _Asked(msgspec.Struct, gc=False):
    """How often a whole prompt was asked for.

    Attributes:
        run: the latest run that did.
        times: how often since that run began.
        most: how often at most since any run began.
    """

    run: int
    times: int = 0
    most: int = 0


class PrefixIndex:
    """Knows which prefixes are shared. Prompts are added in chunks, each before its own breakpoints are asked for.

    A place that had a breakpoint once keeps it: other requests read what was written there. May be used in several
    threads.

    Args:
        model: who reads the prompts.
        tools: what they all start with.
        scope: anything else that separates caches, as for ``Planner``.
        capacity: blocks to remember. Beyond it those that only one prompt had are forgotten, the oldest first.
    """

    def __init__(self, model: Model, tools: Sequence[Tool] = (), *, scope: bytes = b"", capacity: int = 65_536) -> None:
        self._reader = Reader(model, tools, scope=scope)
        self._least = least_of(model)
        self._capacity = max(2, capacity)
        self._prompts: dict[bytes, int] = {}  # how many went through a block, by the digest of all up to it
        self._used: dict[bytes, None] = {}  # where breakpoints are, in the order in which they were set
        self._asked: dict[bytes, _Asked] = {}  # whole prompts
        self._lock = renewed(threading.Lock())

    def __len__(self) -> int:
        """Blocks that are remembered."""
        return len(self._prompts)

    def add(self, conversations: Iterable[Conversation], *, run: int = 0) -> None:
        """Learn from more prompts. Their images and files have to be loaded.

        Args:
            conversations: the prompts.
            run: which run asks for them, the later the higher. What a later run asks once more is no second prompt with
                the same beginning; but what it asks more than once is, however often an earlier one did.
        """
        for conversation in conversations:
            with self._lock:
                digests = self._reader.digests(conversation)
                if not digests or not self._is_another(digests[-1], run):
                    continue
                for digest in digests:
                    self._prompts[digest] = self._prompts.get(digest, 0) + 1
                if len(self._prompts) > self._capacity:
                    self._forget()

    def _is_another(self, prompt: bytes, run: int) -> bool:
        """Whether a run asks for a prompt more often than any did before: one more can read what another wrote."""
        asked = self._asked.get(prompt)
        if asked is None:
            asked = self._asked[prompt] = _Asked(run)
        if run > asked.run:
            asked.run, asked.times = run, 0
        asked.times += 1
        if asked.times <= asked.most:
            return False
        asked.most = asked.times
        return True

    def breakpoints(self, conversation: Conversation, *, most: int = 4) -> tuple[Breakpoint, ...]:
        """Where a prompt leaves prefixes that it shares with others, the outermost first.

        Args:
            conversation: one of the prompts that were added.
            most: breakpoints at most; those that other prompts had before come first, then the outermost.
        """
        with self._lock:
            return self._places(self._reader.chain(conversation), most)

    def _places(self, chain: Iterable[Link], most: int) -> tuple[Breakpoint, ...]:
        new: list[_Place] = []
        used: list[_Place] = []
        last: _Place | None = None  # the last shared block so far that takes a breakpoint
        tokens = before = 0
        for link in chain:
            prompts = self._prompts.get(link.digest, 0)
            if prompts < before and last is not None:
                new.append(last)  # here some prompts part
                last = None
            if prompts < 2:
                break
            before = prompts
            tokens += link.tokens
            if link.digest in self._used:
                used.append((tokens, link))
                last = None
            elif tokens >= self._least and self._reader.takes_breakpoint(link.block):
                last = (tokens, link)
        if last is not None:
            new.append(last)
        chosen = sorted((used + new)[:most], key=lambda place: place[0])
        for _, link in chosen:
            self._used[link.digest] = None
        while len(self._used) > self._capacity:
            del self._used[next(iter(self._used))]
        return tuple(Breakpoint(*link.block.place) for _, link in chosen)

    def _forget(self) -> None:
        """Down to half: first what one prompt alone had, then what fewer prompts had, the oldest of them first."""
        surplus = len(self._prompts) - self._capacity // 2
        by_use = sorted(self._prompts, key=lambda digest: (digest in self._used, self._prompts[digest]))
        for digest in by_use[:surplus]:  # sorted keeps the order of arrival among equals
            del self._prompts[digest]
            self._asked.pop(digest, None)


class PrefixIndexes:
    """The indexes of a client, so that prompts of one run know those of another. The latest few of them.

    A program that asks one prompt at a time shares as much as a batch.
    """

    _CAPACITY = 16

    def __init__(self) -> None:
        self._lock = renewed(threading.Lock())
        self._runs = itertools.count(1)
        self._indexes: OrderedDict[tuple[str, bytes], PrefixIndex] = OrderedDict()

    def new_run(self) -> int:
        """A number for a run."""
        return next(self._runs)

    def get(self, model: Model, tools: Sequence[Tool], scope: bytes) -> PrefixIndex:
        """The index of prompts to a model with these tools, and anything else that separates caches."""
        key = (model.name, scope)
        with self._lock:
            index = self._indexes.get(key)
            if index is None:
                index = self._indexes[key] = PrefixIndex(model, tools, scope=scope)
            self._indexes.move_to_end(key)
            if len(self._indexes) > self._CAPACITY:
                self._indexes.popitem(last=False)
            return index
