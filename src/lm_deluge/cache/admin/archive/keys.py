"""The key that an entry should have, from its stored request alone."""

from lm_deluge import canonical
from lm_deluge.cache.record import StoredRequest
from lm_deluge.errors import DamagedEntryError

__all__ = ["key_of"]


def key_of(request: StoredRequest, namespace: str) -> bytes:
    """The key of a stored request within a namespace, by the present key scheme.

    Raises:
        DamagedEntryError: the request does not say everything that its key is made from.
    """
    digest = request.conversation.digest
    if request.scope == "request":
        if request.parameters is None:
            raise DamagedEntryError("the key is made from parameters too, and they were not stored")
        digest = canonical.scoped(digest, request.parameters.digest)
    return canonical.namespaced(namespace, canonical.sampled(digest, request.sample))
