"""The emulator's token counts: a fixed, documented approximation, so that tests can compute them by hand.

A token is four bytes of UTF-8. A text block counts by its text, a tool by its compact JSON, an image or a PDF by a
constant. Nothing is added for the structure around blocks, except one token for each message of an OpenAI request.
"""

__all__ = [
    "BYTES_PER_TOKEN",
    "DELTA_CHARACTERS",
    "IMAGE_TOKENS",
    "PDF_TOKENS",
    "count_tokens",
    "cut",
    "in_pieces",
    "token_bytes",
]

BYTES_PER_TOKEN = 4
IMAGE_TOKENS = 1_600
PDF_TOKENS = 1_500
DELTA_CHARACTERS = 24


def count_tokens(text: str) -> int:
    """Tokens of ``text`` as the emulator counts them: its UTF-8 bytes divided by four, rounded up."""
    size = len(text) if text.isascii() else len(_encode(text))
    return -(-size // BYTES_PER_TOKEN)


def token_bytes(text: str) -> list[bytes]:
    """The tokens themselves. A token may hold a part of a character, as a real tokenizer's may."""
    data = _encode(text)
    return [data[start : start + BYTES_PER_TOKEN] for start in range(0, len(data), BYTES_PER_TOKEN)]


def cut(text: str, tokens: int) -> str:
    """At most the first ``tokens`` tokens of ``text``; a character cut in two is dropped."""
    if count_tokens(text) <= tokens:
        return text
    return _encode(text)[: max(0, tokens) * BYTES_PER_TOKEN].decode("utf-8", "ignore")


def in_pieces(text: str) -> list[str]:
    """The text as a stream's deltas carry it: some tokens at a time."""
    return [text[start : start + DELTA_CHARACTERS] for start in range(0, len(text), DELTA_CHARACTERS)]


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
