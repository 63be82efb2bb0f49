"""Entries, made from answers. Everything that stores an answer makes its entry here."""

from lm_deluge.cache.codec import UNKNOWN, encode
from lm_deluge.cache.entry import Entry, Facts
from lm_deluge.cache.facts import facts_of
from lm_deluge.cache.record import PackedRequest
from lm_deluge.response import APIResponse

__all__ = ["entry_of"]


def entry_of(
    key: bytes,
    response: APIResponse,
    request: PackedRequest,
    *,
    namespace: str,
    created: float = 0.0,
    fingerprint: bytes = UNKNOWN,
    facts: Facts | None = None,
    run: int = 0,
    expires: float | None = None,
) -> Entry:
    """The entry of an answer.

    Args:
        key: of the entry.
        response: as it is kept.
        request: what was asked, in its stored form.
        namespace: the ``cache_key`` of the cache.
        created: when it was stored, in seconds since the Unix epoch; 0 where that is not known.
        fingerprint: of the parameters with which it was asked; ``UNKNOWN`` where they are not known.
        facts: as they are known from elsewhere; by default as the answer tells them.
        run: the run that bought it, where ``facts`` are not given; 0 for none.
        expires: when it is of no more use, in seconds since the Unix epoch; None for never.
    """
    return Entry(
        key=key,
        value=encode(key, response, created=created, fingerprint=fingerprint),
        namespace=namespace,
        request=request.data,
        refers=request.refers,
        blobs=request.blobs,
        facts=facts_of(response, created=created, run=run) if facts is None else facts,
        expires=expires,
    )
