"""What is said about a hit or a miss: plain values for programs, and text for terminals.

Names and texts from entries are escaped, for a cache file may come from anyone.
"""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from lm_deluge._printable import shown
from lm_deluge.cache.entry import short_id
from lm_deluge.cache.explain.differences import Difference, escaped, quoted
from lm_deluge.cache.record import Scope
from lm_deluge.text import counted, moment, money

__all__ = ["Explanation", "Near", "Reason"]

Reason = Literal[
    "hit",
    "old",
    "damaged",
    "quarantined",
    "namespace",
    "scope",
    "sample",
    "parameters",
    "key",
    "conversation",
    "empty",
    "unlike",
    "unsearchable",
]

_KEY_WIDTH = 64
_WIDTH = 100
_NAME_WIDTH = 36
_MOST_SHOWN = 6  # differences of an entry, in text


class Near(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stored entry, seen from a request.

    Attributes:
        key: in hexadecimal.
        namespace: the ``cache_key`` of the cache that stored it.
        model: the model that answered, as the provider names it.
        created: when it was stored, in seconds since the Unix epoch; 0 if that is not known.
        cost: US dollars paid for it; None when the price was not known.
        similarity: of the conversations, from 0 to 1.
        differences: the first places where the requests differ.
        more: how many places beyond those.
        redacted: whether the stored request was changed on export, so that it is not quite what was asked then.
        samples: how many entries are meant, of which this is the nearest: they differ in nothing but their sample.
    """

    key: str
    namespace: str
    model: str = ""
    created: float = 0.0
    cost: float | None = None
    similarity: float = 1.0
    differences: tuple[Difference, ...] = ()
    more: int = 0
    redacted: bool = False
    samples: int = 1

    @property
    def facts(self) -> str:
        """Which entry it is, in a line."""
        name = escaped(self.model, _NAME_WIDTH) or "unknown model"
        return f"{short_id(bytes.fromhex(self.key), 12)}…, {name}, {moment(self.created)}"

    @property
    def price(self) -> str:
        """What it cost, in words."""
        return "cost unknown" if self.cost is None else f"cost {money(self.cost)}"


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request is a hit or a miss. ``str()`` gives a text for terminals, ``msgspec.to_builtins`` plain data.

    Attributes:
        hit: whether the answer comes from the cache.
        reason: why, in a word: ``"hit"``; ``"old"``, ``"damaged"`` or ``"quarantined"`` where the entry is there;
            ``"namespace"``, ``"scope"``, ``"sample"`` or ``"parameters"`` where the same conversation is stored;
            ``"key"`` where the same request is stored under a key of another scheme; ``"conversation"`` where another
            one is near; ``"empty"`` where the namespace has no entries; ``"unlike"`` where nothing is near;
            ``"unsearchable"`` where the store cannot tell.
        because: the same in a sentence.
        keys: what is looked up, in hexadecimal: what the keys of all answers to the conversation begin with, or with
            ``scope="request"`` the key of an answer of each model.
        namespace: the ``cache_key``.
        scope: how one looks.
        sample: which of several independent answers is meant.
        location: where the entries are.
        entry: the entry under one of the keys, if there is one; its differences are in parameters that are not part of
            the key.
        nearest: on a miss, the entries that are nearest, the nearest first.
        searched: how many entries were looked at, the newest of the namespace first.
        elsewhere: how many of these are in other namespaces.
        damaged: how many of these were skipped because they do not unpack.
    """

    hit: bool
    reason: Reason
    because: str
    keys: tuple[str, ...]
    namespace: str
    scope: Scope = "conversation"
    sample: int = 0
    location: str = ""
    entry: Near | None = None
    nearest: tuple[Near, ...] = ()
    searched: int = 0
    elsewhere: int = 0
    damaged: int = 0

    @property
    def short(self) -> str:
        """One sentence, for an error message."""
        near = next(iter(self.nearest), None)
        if near is None or not near.differences or self.reason in ("hit", "old", "damaged", "quarantined", "key"):
            return self.because
        first, others = near.differences[0], len(near.differences) + near.more - 1
        rest = f", and in {counted(others, 'other place')}" if others else ""
        return f"The nearest entry ({near.facts}) differs in {first.place}: {first.sides}{rest}."

    def __str__(self) -> str:
        return shown("\n".join(self._lines()), lines=True)

    def _lines(self) -> Iterator[str]:
        yield from textwrap.wrap(f"{'Hit' if self.hit else 'Miss'}: {self.because}", _WIDTH)
        yield ""
        for key in self.keys:
            first, *rest = textwrap.wrap(key, _KEY_WIDTH)
            yield f"  key        {first}"
            yield from (f"             {more}" for more in rest)
        sample = f", sample {self.sample}" if self.sample else ""
        yield f"  cache_key  {quoted(self.namespace)}, scope {self.scope}{sample}"
        yield f"  store      {self.location}"
        if self.searched:
            yield f"  searched   {self._search()}"
        if self.entry is not None:
            yield ""
            yield f"Entry {self.entry.facts}, {self.entry.price}"
            if self.entry.differences:
                yield "  It was asked with other parameters, which do not matter here:"
                yield from _difference_lines(self.entry)
        for number, near in enumerate(self.nearest):
            yield ""
            yield f"{'Nearest' if not number else f'{number + 1}.'} {near.facts}, {_alike(near.similarity)}"
            if others := near.samples - 1:
                yield f"  It stands for {counted(others, 'other sample')} of the same prompt too."
            if near.redacted:
                yield "  Its request was redacted, so some of this may not be what was asked then."
            yield from _difference_lines(near)

    def _search(self) -> str:
        entries = f"the newest {self.searched:,} entries" if self.searched > 1 else "1 entry"
        elsewhere = f", {self.elsewhere:,} of them under other cache_keys" if self.elsewhere else ""
        damaged = f"; {self.damaged:,} damaged skipped" if self.damaged else ""
        return entries + elsewhere + damaged


def _alike(similarity: float) -> str:
    if similarity >= 1:
        return "the same conversation"
    return f"{min(round(100 * similarity), 99)}% alike"


def _difference_lines(near: Near) -> Iterator[str]:
    shown: Sequence[Difference] = near.differences[:_MOST_SHOWN]
    for difference in shown:
        line = f"  {difference}"
        if not difference.is_long and len(line) <= _WIDTH:
            yield line
            continue
        # One above the other, so that the eye finds what differs.
        yield f"  {difference.path}" + (f" differs at character {difference.at}" if difference.is_long else "")
        yield f"    asked   {difference.asked}"
        yield f"    stored  {difference.stored}"
    if hidden := len(near.differences) - len(shown) + near.more:
        yield f"  … and in {counted(hidden, 'other place')}"
