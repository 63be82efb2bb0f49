"""Which of the answers to a conversation a scope allows, and which of them is the best."""

from collections.abc import Iterable, Sequence

from lm_deluge.cache.codec import fingerprint_of
from lm_deluge.cache.record import Scope
from lm_deluge.canonical import conversation_of
from lm_deluge.request import Parameters

__all__ = ["allowed", "fingerprints"]

Candidates = Sequence[tuple[bytes, object]]


def allowed(
    candidates: Candidates, *, scope: Scope, own: Sequence[bytes], own_fingerprints: frozenset[bytes]
) -> Candidates:
    """Those that may be served, the best first. With ``scope="request"`` these are answers to the same request alone.

    Args:
        candidates: keys and values of answers to a conversation, as a store gives them.
        scope: how one looks.
        own: the keys of answers to the same request.
        own_fingerprints: as ``fingerprints`` gives them. In files of older versions an answer may be stored under the
            conversation alone. Then the fingerprint in its value tells what it is an answer to.
    """
    if all(conversation_of(key) != key for key, _ in candidates):
        return candidates if scope == "conversation" else [one for one in candidates if one[0] in own]
    is_own = [
        key in own or (conversation_of(key) == key and fingerprint_of(value) in own_fingerprints)
        for key, value in candidates
    ]
    first = [one for one, is_first in zip(candidates, is_own, strict=True) if is_first]
    if scope == "request":
        return first
    return [*first, *(one for one, is_first in zip(candidates, is_own, strict=True) if not is_first)]


def fingerprints(parameters: Iterable[Parameters]) -> frozenset[bytes]:
    """Fingerprints that tell what an answer is an answer to. They leave out headers, so there are none with these."""
    return frozenset(one.fingerprint for one in parameters if not one.extra_headers)
