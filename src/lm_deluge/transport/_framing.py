"""What the head of an answer says of its body, and whether that can be read at all.

An answer that is not understood has no end that can be seen, so it is refused at its head and not waited for.
"""

from collections.abc import Iterable

__all__ = ["UnreadableError", "is_compressed"]

_CONTENT_ENCODING, _TRANSFER_ENCODING = b"content-encoding", b"transfer-encoding"
_LENGTHS = frozenset({len(_CONTENT_ENCODING), len(_TRANSFER_ENCODING)})  # spares most names the comparison
_PLAIN = frozenset({b"", b"identity"})
_COMPRESSED = frozenset({b"gzip", b"x-gzip", b"deflate"})


class UnreadableError(Exception):
    """Why an answer cannot be read, in words that follow "is not valid HTTP:"."""


def is_compressed(status: int, fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the body of an answer is gzip or zlib.

    Args:
        status: the status of a final answer.
        fields: its headers.

    Raises:
        UnreadableError: the status is none of an answer, or the body is encoded in a way that was not asked for.
    """
    if status == 101:
        raise UnreadableError("it switches to another protocol (101)")
    if status < 200:
        raise UnreadableError(f"its status is {status:03}")
    compressed = False
    for name, value in fields:
        if len(name) not in _LENGTHS:
            continue
        name = name.lower()
        if name == _CONTENT_ENCODING and (coding := value.strip().lower()) not in _PLAIN:
            if compressed or coding not in _COMPRESSED:
                raise UnreadableError("its body has a content encoding that was not asked for")
            compressed = True
        elif name == _TRANSFER_ENCODING and value.strip().lower() != b"chunked":
            raise UnreadableError("its body has a transfer encoding that was not asked for")
    return compressed
