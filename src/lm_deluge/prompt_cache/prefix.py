"""What a request's breakpoints stand for: the prefixes that its provider writes or reads."""

import hashlib
from collections.abc import Sequence

import msgspec

from lm_deluge.models import Model
from lm_deluge.models.caching import USUAL_MINIMUM
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache.breakpoints import may_hold_breakpoints
from lm_deluge.prompt_cache.layout import Reader
from lm_deluge.request import Breakpoint

__all__ = ["Prefix", "cache_key", "least_of", "prefixes"]

# Estimates count four bytes to a token. Tokenizers of today find up to a third more in the same text.
_ESTIMATE_MAY_BE_LOW = 0.75


class Prefix(msgspec.Struct, frozen=True, gc=False):
    """The part of a prompt up to and including a breakpoint, as one model's cache knows it.

    Attributes:
        id: digest of model, tools, system text and messages up to there. Equal where the cache has one entry.
        tokens: about how many tokens it has.
        minimum: the shortest prefix that the model caches, in tokens.
        seconds: how long its entry lives after each use.
        is_whole: whether it is all of the prompt, so that it is of use only to those that go on from it.
        is_renewed: whether reading a longer prefix that begins with it renews its entry too.
    """

    id: bytes
    tokens: int
    minimum: int = USUAL_MINIMUM
    seconds: float = 300.0
    is_whole: bool = False
    is_renewed: bool = True

    @property
    def is_cacheable(self) -> bool:
        """Whether it may be long enough. In doubt it is: the number of tokens is an estimate."""
        return self.tokens >= self.minimum * _ESTIMATE_MAY_BE_LOW


def prefixes(
    reader: Reader, conversation: Conversation, breakpoints: Sequence[Breakpoint], *, model: Model
) -> tuple[Prefix, ...]:
    """The prefixes of all breakpoints, those of the user included, each a part of the next one."""
    minimum = model.cache_minimum
    theirs = model.caching.takes_breakpoints and may_hold_breakpoints(conversation)
    wanted = {each.place: each.ttl for each in breakpoints}
    found: list[Prefix] = []
    end, size = b"", 0  # of what ends with a block that takes a breakpoint
    tokens = 0
    for block, digest, more in reader.chain(conversation):
        if not wanted and not theirs:
            break  # the rest of the prompt is behind the last breakpoint
        tokens += more
        own = block.own_breakpoint if theirs else None
        if own is not None or reader.takes_breakpoint(block):
            end, size = digest, tokens
        if own is not None or block.place in wanted:
            seconds = model.caching.seconds(model.caching.ttl(wanted.pop(block.place, own)))
            if not end:
                continue  # there is nothing that the breakpoint could stand on
            if found and found[-1].id == end:
                seconds = max(seconds, found.pop().seconds)
            found.append(Prefix(end, size, minimum, seconds, is_renewed=model.caching.renews_shorter))
    else:
        if found and found[-1].id == end:
            found[-1] = msgspec.structs.replace(found[-1], is_whole=True)
    return tuple(found)


def least_of(model: Model) -> float:
    """The fewest tokens, as they are estimated here, with which a prefix may be long enough for the model."""
    return model.cache_minimum * _ESTIMATE_MAY_BE_LOW


def cache_key(prefix_id: bytes) -> str:
    """The routing key of requests that share a prefix, the first of its shards: the same in every process."""
    name = hashlib.sha256(b"lm_deluge cache key 1\n" + prefix_id).hexdigest()[:24]
    return f"{name}-0"
