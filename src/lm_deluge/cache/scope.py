"""How one looks: which of the answers to a conversation a scope allows, and which of them is the best."""

import os
from collections.abc import Iterable, Sequence
from typing import cast, get_args

from lm_deluge.cache.codec import fingerprint_of
from lm_deluge.cache.record import Scope
from lm_deluge.canonical import conversation_of
from lm_deluge.errors import ConfigError
from lm_deluge.request import Parameters

__all__ = ["VARIABLE", "allowed", "fingerprints", "scope_of"]

VARIABLE = "LM_DELUGE_CACHE_SCOPE"
"""The environment variable that says how to look where no argument does."""

Candidates = Sequence[tuple[bytes, object]]


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
