"""What others have written, made harmless where people look at it: on a terminal, in a pager, in a file.

Spelled out is what could move the cursor, reorder what is read, or hide: controls, marks that turn text around, line
separators, invisible tags. Letters of all languages and emoji stay.
"""

import unicodedata

__all__ = ["printable_json", "shown"]

_DANGEROUS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_HARMLESS = frozenset("\u200c\u200d")  # join letters and emoji


def _is_dangerous(character: str) -> bool:
    return unicodedata.category(character) in _DANGEROUS and character not in _HARMLESS


def shown(text: str, *, lines: bool = False) -> str:
    """Text with everything spelled out that could move the cursor, reorder what is read, or hide.

    Args:
        text: from an entry, a provider or a file.
        lines: leave line ends as they are; otherwise all white space becomes single spaces.
    """
    if not lines:
        text = " ".join(text.split())
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if _is_dangerous(character) and not (lines and character == "\n")
        else character
        for character in text
    )


def printable_json(data: bytes) -> bytes:
    """Encoded JSON with such characters as escapes, which are the same value for every reader.

    Args:
        data: as ``msgspec`` encodes it: in UTF-8, without white space, controls below U+0020 escaped.
    """
    if data.isascii() and b"\x7f" not in data:
        return data
    text = data.decode()
    if text.isprintable():
        return data
    escapes = {ord(character): _escape(character) for character in set(text) if _is_dangerous(character)}
    return text.translate(escapes).encode() if escapes else data


def _escape(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
