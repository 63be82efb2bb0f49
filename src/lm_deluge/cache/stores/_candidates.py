"""Which entries of a conversation a lookup gives, and in which order."""

from collections.abc import Mapping, Sequence

__all__ = ["MOST", "in_order"]

MOST = 8
"""How many entries of a conversation a lookup gives."""


def in_order(own: Sequence[bytes], created: Mapping[bytes, float]) -> list[bytes]:
    """The keys to be given.

    Args:
        own: keys that are preferred, the best first.
        created: when each entry that is there was stored, by key.
    """
    if len(created) == 1:
        return list(created)
    first = [key for key in own if key in created]
    others = sorted(created.keys() - set(first), key=lambda key: (created[key], key), reverse=True)
    return [*first, *others][:MOST]
