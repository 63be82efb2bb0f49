"""What a reader remembers, so that what prompts share is read once. What one alone has is not kept alive for it."""

import hashlib
from array import array
from collections import deque
from collections.abc import Sequence
from itertools import islice
from operator import is_
from typing import NamedTuple

from lm_deluge.prompt import Conversation, Message
from lm_deluge.prompt_cache.blocks import Link

__all__ = ["DIGEST_BYTES", "LongTexts", "Trunk", "Trunks", "digest_of", "in_common"]

DIGEST_BYTES = 16


def digest_of(data: bytes) -> bytes:
    """``DIGEST_BYTES`` of a SHA-256."""
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


class LongTexts:
    """Digests of the latest few thousand long texts, none of which is kept for it.

    A string keeps its hash, so a text is known again by that and its length. Of 2**64 pairs of texts one would be taken
    for each other, and a breakpoint be out of place.
    """

    _CAPACITY = 4_096

    def __init__(self) -> None:
        self._digests: dict[tuple[int, int], bytes] = {}

    def digest(self, text: str) -> bytes:
        key = (hash(text), len(text))
        found = self._digests.get(key)
        if found is None:
            found = self._digests[key] = digest_of(text.encode("utf-8", "surrogatepass"))
            if len(self._digests) > self._CAPACITY:
                del self._digests[next(iter(self._digests))]
        return found


class Trunk(NamedTuple):
    """How several prompts begin.

    Attributes:
        messages: the messages, which are the same objects in all of them.
        has_images: whether there are images anywhere in those prompts.
        links: what was read of them, behind the tools.
        size: bytes that are held with it, about.
    """

    messages: Sequence[Message]
    has_images: bool
    links: Sequence[Link]
    size: int


class Trunks:
    """The latest trunks of long prompts: turns of one conversation, or questions about one.

    Only what two prompts have in common is held. Of each alone the addresses of its messages are remembered; where
    others have moved in since, a few are held in vain.

    Attributes:
        nothing: the trunk of prompts that have none.
    """

    LEAST = 16  # messages; below it, reading is quicker than comparing
    _CAPACITY = 16
    _BYTES = 4_000_000  # of all that is held

    def __init__(self) -> None:
        self.nothing: Trunk = Trunk((), False, (), 0)
        self._held: deque[Trunk] = deque()  # the latest last
        self._bytes = 0
        self._seen: dict[int, tuple[Trunk, array[int]]] = {}  # what came behind which trunk, by the prompt's address

    def find(self, messages: Sequence[Message], *, has_images: bool) -> Trunk:
        """The longest trunk with which a prompt begins."""
        found = self.nothing
        for trunk in self._held:
            length = len(trunk.messages)
            if (
                len(found.messages) < length < len(messages)
                and messages[length - 1] is trunk.messages[-1]  # which most are not
                and trunk.has_images == has_images
                and all(map(is_, trunk.messages, messages))
            ):
                found = trunk
        return found

    def in_common(self, conversation: Conversation, known: Trunk) -> int:
        """With how many messages a prompt begins like another one that was read lately. Both begin with the trunk."""
        rest = array("Q", map(id, islice(conversation.messages, len(known.messages), None)))
        self._seen.pop(id(conversation), None)
        longest = max([in_common(rest, other) for trunk, other in self._seen.values() if trunk is known], default=0)
        self._seen[id(conversation)] = (known, rest)
        if len(self._seen) > self._CAPACITY:
            del self._seen[next(iter(self._seen))]
        return len(known.messages) + longest

    def hold(self, trunk: Trunk) -> None:
        """Remember a trunk."""
        self._held.append(trunk)
        self._bytes += trunk.size
        while len(self._held) > self._CAPACITY or self._bytes > self._BYTES:
            gone = self._held.popleft()
            self._bytes -= gone.size
            self._seen = {prompt: (behind, rest) for prompt, (behind, rest) in self._seen.items() if behind is not gone}


def in_common(one: Sequence[object], two: Sequence[object]) -> int:
    """How many items two sequences begin with alike."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((at for at, (first, second) in pairs if first != second), min(len(one), len(two)))
