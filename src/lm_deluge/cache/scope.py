"""How one looks: which of the answers to a conversation a scope allows, and which of them is the best."""

import os
from collections.abc import Collection, Iterable, Sequence
from typing import Any, cast, get_args

from lm_deluge.cache.codec import fingerprint_of
from lm_deluge.cache.entry import Stored
from lm_deluge.cache.record import Scope, unpack_request
from lm_deluge.cache.stores import ScanStore
from lm_deluge.canonical import conversation_of
from lm_deluge.errors import ConfigError, DamagedEntryError
from lm_deluge.request import Parameters

__all__ = ["VARIABLE", "Candidates", "candidates", "fingerprints", "scope_of", "to_the_same_request"]

VARIABLE = "LM_DELUGE_CACHE_SCOPE"
"""The environment variable that says how to look where no argument does."""

Candidates = Sequence[tuple[bytes, Any]]
"""Keys and values of answers to a conversation."""


def scope_of(given: Scope | None, *, otherwise: Scope = "conversation") -> Scope:
    """How to look: as an argument says, as the environment does, or in a usual way.

    Raises:
        ConfigError: the argument or the variable is no scope.
    """
    if given is None:
        named = os.environ.get(VARIABLE) or otherwise
        if named not in get_args(Scope):
            raise ConfigError(f"{VARIABLE}={named!r} is not known; use 'conversation' or 'request'.")
        return cast("Scope", named)
    if given not in get_args(Scope):
        raise ConfigError(f"scope={given!r} is not known; use 'conversation' or 'request'.")
    return given


def candidates(
    store: Any,
    conversations: Sequence[bytes],
    own: Sequence[Sequence[bytes]],
    *,
    scope: Scope,
    own_fingerprints: frozenset[bytes],
) -> list[Candidates]:
    """The answers that each of some conversations may get, the best first. One call of the store.

    Args:
        store: finds all answers to a conversation.
        conversations: their keys.
        own: for each, the keys of answers to the same request.
        scope: how one looks.
        own_fingerprints: as ``fingerprints`` gives them.
    """
    found: list[Candidates]
    if scope == "request":
        # The old key, under which there may be an answer to the same parameters or to others, comes last.
        wanted = [[*keys, one] for one, keys in zip(conversations, own, strict=True)]
        values = iter(store.get_many([key for keys in wanted for key in keys]))
        found = [[(key, value) for key in keys if (value := next(values)) is not None] for keys in wanted]
    else:
        found = list(store.find_many(conversations, own))
        if all(len(some) < 2 for some in found):
            return found
    return [
        _allowed(some, scope=scope, own=keys, own_fingerprints=own_fingerprints)
        for some, keys in zip(found, own, strict=True)
    ]


def _allowed(
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


def to_the_same_request(
    found: Sequence[Candidates], store: object, digests: Collection[bytes | None]
) -> list[Candidates]:
    """Without answers under old keys that went to another place or with other headers. Blocks.

    A fingerprint says nothing of those; the stored request does.

    Args:
        found: what ``candidates`` gave for each prompt.
        store: where the entries are.
        digests: of the parameters that are asked for.
    """
    old = list({key for some in found for key, _ in some if conversation_of(key) == key})
    if not old:
        return list(found)
    same: set[bytes] = set()
    if isinstance(store, ScanStore):
        stored = filter(None, store.read(old))
        same = {one.key for one in stored if _asked_of(one, store) in digests}
    return [[one for one in some if conversation_of(one[0]) != one[0] or one[0] in same] for some in found]


def _asked_of(stored: Stored, store: ScanStore) -> bytes:
    """The digest of what was asked beside the conversation; empty if the stored request does not say all of it."""
    try:
        parameters = unpack_request(stored.request, store.read_blobs).parameters if stored.request else None
    except DamagedEntryError:
        return b""
    return parameters.digest if parameters is not None and parameters.is_whole else b""
