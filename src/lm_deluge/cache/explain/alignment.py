"""Pairs of elements in two sequences that correspond: messages, their parts, items of JSON arrays."""

from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

from msgspec import UNSET

from lm_deluge.canonical import encode
from lm_deluge.prompt import Message, Text

__all__ = ["aligned", "canonical", "same", "shared_prefix"]

_MOST = 500  # of more items than that, those between the same beginning and end are compared by position


def aligned(
    left: Sequence[Any], right: Sequence[Any], kind: Callable[[Any], str]
) -> Iterator[tuple[int | None, int | None, bool]]:
    """Positions of corresponding items, and whether these are equal; None where the other sequence has no such item.

    The same beginning and the same end are found first. What is left goes by position if it is of the same length,
    and otherwise by kind, so that an item put in between does not move all that follow.
    """
    shorter = min(len(left), len(right))
    head = next((n for n in range(shorter) if not same(left[n], right[n])), shorter)
    tail = next((n for n in range(shorter - head) if not same(left[-1 - n], right[-1 - n])), shorter - head)
    for position in range(head):
        yield position, position, True
    for i, j in _middle(left[head : len(left) - tail], right[head : len(right) - tail], kind):
        if i is None or j is None:
            yield i if i is None else head + i, j if j is None else head + j, False
        else:
            yield head + i, head + j, same(left[head + i], right[head + j])
    for position in range(-tail, 0):
        yield len(left) + position, len(right) + position, True


def same(left: Any, right: Any) -> bool:
    """Whether two values give the same key bytes: 1, 1.0, true and "1" are four values.

    Raises:
        PromptError: one of them has no canonical form.
    """
    if left is right:
        return True
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    if isinstance(left, Message) and isinstance(right, Message):
        if left.role != right.role or len(left.parts) != len(right.parts):
            return False
        if all(type(part) is Text for part in left.parts):  # nearly always; there is no need to encode long texts
            return left.parts == right.parts
    if left is UNSET or right is UNSET:
        return False
    return canonical(left) == canonical(right)


def canonical(value: Any) -> bytes:
    """The key bytes of a value: a message, a part, or plain data.

    Raises:
        PromptError: it has no canonical form.
    """
    identity = getattr(value, "__canonical__", None)
    return encode(value if identity is None else identity())


def shared_prefix(left: str, right: str) -> int:
    """How many characters two texts have in common at the start."""
    low, high = 0, min(len(left), len(right))
    while low < high:  # by halves, since comparing slices is fast
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _middle(
    left: Sequence[Any], right: Sequence[Any], kind: Callable[[Any], str]
) -> Iterator[tuple[int | None, int | None]]:
    blocks = [(0, len(left), 0, len(right))]
    if len(left) != len(right) and max(len(left), len(right)) <= _MOST:
        matcher = SequenceMatcher(None, [*map(kind, left)], [*map(kind, right)], autojunk=False)
        blocks = [(i, i_end, j, j_end) for _, i, i_end, j, j_end in matcher.get_opcodes()]
    for i, i_end, j, j_end in blocks:
        for offset in range(max(i_end - i, j_end - j)):
            yield i + offset if i + offset < i_end else None, j + offset if j + offset < j_end else None
