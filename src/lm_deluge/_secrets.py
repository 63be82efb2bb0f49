"""Credentials: which values are secret, and how they are kept out of what is said.

Servers repeat what they were sent: a gateway quotes the key that it refused, with its slashes escaped, in capitals, in
two pieces, or in Base64 as part of a dumped header. So a text is compared as a reader would read it (escapes undone,
case and white space ignored), and each piece of a secret, plain or encoded, that is long enough to give it away is
masked. ``docs/security.md`` says which encodings are covered.
"""

import html
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator

__all__ = ["MASK", "NO_SECRETS", "Secrets", "says_what_is_asked"]

MASK = "***"

_SHORTEST = 4
_LETTERS = 6  # shorter ones of letters alone are words such as "none" or "EMPTY", and to mask these spoils messages
_WHOLE = 8  # shorter ones are masked where they stand by themselves
_PIECE = 12  # of a longer secret, so many characters in a row give it away

# Headers that say what is asked of a model or how it is answered, and never who asks.
_ASKING = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "anthropic-beta",
        "anthropic-version",
        "content-encoding",
        "content-language",
        "content-type",
        "openai-beta",
        "openai-version",
        "user-agent",
    }
)

# One character as it may be written: escaped as in JSON or Python, in percent-encoding, as an HTML entity, or as it is.
_SPELLING = re.compile(
    r"\\+u00(?P<u>[0-9a-f]{2})|\\+x(?P<x>[0-9a-f]{2})|\\+(?P<escaped>[^\\])|%(?:25)*(?P<percent>[0-9a-f]{2})"
    r"|(?P<entity>&#?[0-9a-z]{1,8};)|(?P<plain>.)",
    re.IGNORECASE | re.DOTALL,
)

# What looks like a key, anyone's. Providers echo part of the key in their messages.
_KEY_LIKE = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|fw|csk|tgp|r8)[-_][\w\-*.]{6,}|\bAIza[\w\-*.]{6,}|\b(?i:bearer)\s+[\w\-*.+/=]{6,}"
)


def says_what_is_asked(header: str) -> bool:
    """Whether a header is known to say what is asked, so that its value may be shown. Any other's is a secret."""
    return header.lower() in _ASKING


class Secrets:
    """Values that must not be said.

    Args:
        values: credentials, and values of headers; of those with several words each word counts too. What is shorter
            than a few letters is no secret, and to mask it would spoil the message.
    """

    __slots__ = ("_parts", "_values")

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = tuple(values)
        self._parts: _Parts | None = None

    def __repr__(self) -> str:
        return "Secrets(...)"

    def hide(self, text: str) -> str:
        """The text with everything masked that is a secret, or looks like a credential."""
        if self._values:
            if self._parts is None:  # made at the first error, for most runs have none
                self._parts = _Parts(self._values)
            text = self._parts.hide(text)
        return _KEY_LIKE.sub(MASK, text)


class _Parts:
    """What is looked for in a text."""

    def __init__(self, values: Iterable[str]) -> None:
        self._words: set[str] = set()  # to be found as a whole
        self._pieces: dict[int, set[str]] = {}  # by their length, all runs of characters that give a secret away
        for value in values:
            self._add(value, letters=_LETTERS)
            for word in re.split(r"[\s=;,:\"']+", value):
                self._add(word, letters=_WHOLE)  # as "Bearer" and "session" are none

    def _add(self, value: str, *, letters: int) -> None:
        secret = "".join(character for character, _, _ in _read(value))
        if len(secret) < (letters if secret.isalpha() else _SHORTEST):
            return
        if len(secret) < _WHOLE:
            self._words.update([secret, *(text for text, _ in _encoded(value, parts=False))])
            return
        size = min(_PIECE, max(_WHOLE, len(secret) // 2))
        self._add_pieces(secret, size)
        for text, longer in _encoded(value, parts=True):
            self._add_pieces(text, size * longer)

    def _add_pieces(self, secret: str, size: int) -> None:
        starts = range(len(secret) - size + 1)
        self._pieces.setdefault(size, set()).update(secret[start : start + size] for start in starts)

    def hide(self, text: str) -> str:
        read = _read(text)
        line = "".join(character for character, _, _ in read)
        hidden = bytearray(len(line))
        for size, pieces in self._pieces.items():
            for start in range(len(line) - size + 1):
                if line[start : start + size] in pieces:
                    hidden[start : start + size] = b"\1" * size
        for word in self._words:
            at = line.find(word)
            while at >= 0:
                first, last = read[at][1], read[at + len(word) - 1][2]
                if not (text[first - 1 : first].isalnum() or text[last : last + 1].isalnum()):
                    hidden[at : at + len(word)] = b"\1" * len(word)
                at = line.find(word, at + 1)
        if not any(hidden):
            return text
        shown: list[str] = []
        end = 0
        for run in re.finditer(rb"\x01+", hidden):
            shown += text[end : read[run.start()][1]], MASK
            end = read[run.end() - 1][2]
        return "".join(shown) + text[end:]


def _encoded(value: str, *, parts: bool) -> Iterator[tuple[str, int]]:
    """A secret in hexadecimal and in Base64, in small letters, and how many whole times longer that is.

    Args:
        value: as it is sent.
        parts: also as a part of something longer that was encoded. Base64 then depends on its place there, modulo 3.
    """
    secret = value.encode("utf-8", "replace")
    wholes = [secret, b"Bearer " + secret]
    for whole in wholes:
        yield whole.hex(), 2
    for whole in [*wholes, *([b" " + secret, b"  " + secret] if parts else [])]:
        text = b64encode(whole).decode().rstrip("=").lower()
        yield text, 1
        yield text.replace("+", "-").replace("/", "_"), 1


def _read(text: str) -> list[tuple[str, int, int]]:
    """The characters that a reader would see, in small letters and without white space, and where each is written."""
    read: list[tuple[str, int, int]] = []
    for spelling in _SPELLING.finditer(text):
        written = spelling[0]
        if code := spelling["u"] or spelling["x"] or spelling["percent"]:
            written = chr(int(code, 16))
        elif spelling["escaped"]:
            written = spelling["escaped"]
        elif spelling["entity"]:
            written = html.unescape(written)
        read += [
            (small, spelling.start(), spelling.end())
            for character in written
            if character.isprintable() and not character.isspace()
            for small in character.lower()
        ]
    return read


NO_SECRETS = Secrets()
"""For those who have none."""
