"""A prompt in steps of equal length, as caches without breakpoints read it: all that begins alike can be read.

A step may end anywhere, inside a long text too. Where that is in the text goes by four bytes to a token.
"""

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from lm_deluge.prompt import Text, ToolResult
from lm_deluge.prompt_cache.blocks import Block
from lm_deluge.prompt_cache.trunks import digest_of

__all__ = ["STEP", "Piece", "Steps"]

STEP = 128  # OpenAI, prompt caching guide: earlier models count cached tokens in multiples of this
_TOKEN_BYTES = 4
_REMEMBERED = 1_024  # blocks; a run says the same few over and over


class Piece(msgspec.Struct, frozen=True):
    """A block in its place among the tokens of a prompt.

    Attributes:
        block: the block.
        before: digest of the prompt up to it, as ``Reader.chain`` has it.
        digest: the same, itself included.
        start: tokens before it, and before what opens its message if it is the first there.
        opening: how many tokens open the message, if it is the first there.
        end: tokens up to its end.
    """

    block: Block
    before: bytes
    digest: bytes
    start: int
    opening: int
    end: int


class Steps:
    """Finds the digests of a prompt up to each whole step. Those of the latest blocks are remembered."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Sequence[bytes]] = OrderedDict()

    def within(self, piece: Piece, *, salt: bytes) -> Sequence[bytes]:
        """The digests at the steps that end in a block, of the whole prompt up to there. The salt separates caches."""
        count = piece.end // STEP - piece.start // STEP
        if not count:
            return ()
        key = salt + piece.digest
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
            return found
        found = self._known[key] = _cut(piece, count, salt)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found


def _cut(piece: Piece, count: int, salt: bytes) -> Sequence[bytes]:
    text = _text(piece.block)
    if text is None:
        # Nothing begins like a picture and goes on in another way.
        return [digest_of(b"%d in %b%b" % (number, salt, piece.digest)) for number in range(count)]
    data = text.encode("utf-8", "surrogatepass")
    first = (piece.start // STEP + 1) * STEP - piece.start - piece.opening
    kind = f"{piece.opening} {piece.block.role} {type(piece.block.value).__name__}".encode()
    digest = digest_of(b"%b in %b%b" % (kind, salt, piece.before))
    done = 0
    found = []
    for number in range(count):
        end = max(0, first + number * STEP) * _TOKEN_BYTES
        digest = digest_of(digest + data[done:end])
        done = end
        found.append(digest)
    return found


def _text(block: Block) -> str | None:
    """A block's text; None where it is, or holds, anything else."""
    value = block.value
    content = value.result if isinstance(value, ToolResult) else value
    parts = content if isinstance(content, tuple) else (content,)
    texts = [part if isinstance(part, str) else part.text for part in parts if isinstance(part, str | Text)]
    return "".join(texts) if len(texts) == len(parts) else None
