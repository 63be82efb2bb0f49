"""What providers refuse: more than a few breakpoints, and a lasting one behind a short-lived one.

Users can set breakpoints of their own, in blocks that only one provider knows. They count, and ours give way.
"""

from collections.abc import Iterable, Sequence

import msgspec

from lm_deluge.models import Caching
from lm_deluge.prompt import Conversation, ProviderBlock, Thinking
from lm_deluge.prompt_cache.blocks import Block
from lm_deluge.request import Breakpoint

__all__ = ["at_the_end", "fewer", "longest_first", "may_hold_breakpoints"]


def may_hold_breakpoints(conversation: Conversation) -> bool:
    """Whether the prompt holds blocks in which a user can have set a breakpoint."""
    return any(type(part) is ProviderBlock for message in conversation.messages for part in message.parts)


def fewer(breakpoints: Sequence[Breakpoint], most: int) -> tuple[Breakpoint, ...]:
    """At most so many breakpoints: the outermost, which most prompts share, and the innermost ones."""
    if len(breakpoints) <= most:
        return tuple(breakpoints)
    if most <= 1:
        return tuple(breakpoints[-1:]) if most == 1 else ()
    return (breakpoints[0], *breakpoints[len(breakpoints) - most + 1 :])


def longest_first(
    breakpoints: Sequence[Breakpoint], blocks: Iterable[Block], caching: Caching
) -> tuple[Breakpoint, ...]:
    """The breakpoints with lifetimes that never get longer from one to the next, those of the user included.

    Where one of ours stands before a longer one of the user, it lives as long as that; behind a shorter one, as
    short.
    """
    ours = {each.place: each for each in breakpoints}
    order: list[Breakpoint | str] = []
    for block in blocks:
        if (theirs := block.own_breakpoint) is not None:
            order.append(theirs)
        elif (found := ours.get(block.place)) is not None:
            order.append(found)
    shortest: float | None = None
    result: list[Breakpoint] = []
    for at, item in enumerate(order):
        wanted = _seconds(item, caching)
        if isinstance(item, Breakpoint):
            wanted = max(_seconds(each, caching) for each in order[at:])
            wanted = wanted if shortest is None else min(wanted, shortest)
            result.append(msgspec.structs.replace(item, ttl=_name(wanted, item, caching)))
        shortest = wanted if shortest is None else min(wanted, shortest)
    return tuple(result)


def at_the_end(
    blocks: Iterable[Block], ttl: str | None, caching: Caching, *, reserved: int = 0
) -> tuple[bool, str | None]:
    """Whether the provider may set a breakpoint of its own behind those of the user, and how long it lives there.

    It counts too, it has to agree with one that stands on the same block, and it must not outlive those
    before it.
    """
    lifetimes = [block.own_breakpoint for block in blocks if not isinstance(block.value, Thinking)]
    theirs = [each for each in lifetimes if each is not None]
    if not theirs:
        return True, ttl
    if lifetimes[-1] is not None or len(theirs) + reserved >= caching.max_breakpoints:
        return False, ttl
    return True, min((ttl, *theirs), key=lambda each: caching.seconds(caching.ttl(each)))


def _seconds(item: Breakpoint | str, caching: Caching) -> float:
    return caching.seconds(caching.ttl(item.ttl if isinstance(item, Breakpoint) else item))


def _name(seconds: float, asked: Breakpoint, caching: Caching) -> str | None:
    if seconds == _seconds(asked, caching):
        return asked.ttl
    return next((ttl for ttl in caching.lifetimes if caching.seconds(ttl) == seconds), asked.ttl)
