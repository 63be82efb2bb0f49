"""Where two requests differ, field by field.

Equality is that of keys: two requests differ here exactly when they do there. Everything that is shown is escaped,
because stored requests may come from anyone, and because a trailing space, a no-break space or a carriage return is
often the whole difference.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from lm_deluge.cache.explain.alignment import aligned, same, shared_prefix
from lm_deluge.cache.record import StoredRequest
from lm_deluge.canonical import encode
from lm_deluge.prompt import File, Image, Message, ProviderBlock, Text, Thinking, ToolCall, ToolResult
from lm_deluge.request import Parameters

__all__ = ["Difference", "differences", "escaped", "parameter_differences", "quoted"]

_BEFORE = 32  # columns of an excerpt before the first character that differs
_WIDTH = 60  # columns of an excerpt
_GLANCE = 36  # characters that are seen at a glance
_NAME_WIDTH = 40  # of one name in a path, unless it is quoted

_PLAIN_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")


class Difference(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One place where two requests differ.

    Attributes:
        path: the place, such as ``messages[3].text`` or ``params.temperature``. Numbers count from 0, in the request
            that is asked if it has the place.
        asked: what is asked there, as it is shown: text in quotes, escaped, and cut to where it differs; other values
            as JSON; ``not set`` or ``nothing`` where there is none.
        stored: what was stored there, in the same form.
        at: the first character that differs, counted from 0, where both are texts; else None.
    """

    path: str
    asked: str
    stored: str
    at: int | None = None

    @property
    def is_long(self) -> bool:
        """Whether both sides are texts that are too long to see at a glance where they differ."""
        return self.at is not None and max(len(self.asked), len(self.stored)) > _GLANCE

    @property
    def place(self) -> str:
        """The path, and the character where that helps."""
        return f"{self.path} at character {self.at}" if self.is_long else self.path

    @property
    def sides(self) -> str:
        """What is asked, and what was stored."""
        return f"asked {self.asked}, stored {self.stored}"

    def __str__(self) -> str:
        return f"{self.path}{f' differs at character {self.at}' if self.is_long else ''}: {self.sides}"


def differences(asked: StoredRequest, stored: StoredRequest) -> tuple[Difference, ...]:
    """Where two requests differ: the conversation first, then parameters if both have them, scope and sample.

    Conversations must be loaded.

    Raises:
        PromptError: something in a request has no canonical form.
    """
    found = list(_messages(asked.conversation.messages, stored.conversation.messages))
    if asked.parameters is not None and stored.parameters is not None:
        found += parameter_differences(asked.parameters, stored.parameters)
    found += _values("scope", asked.scope, stored.scope)
    found += _values("sample", asked.sample, stored.sample)
    return tuple(found)


def parameter_differences(asked: Parameters, stored: Parameters) -> tuple[Difference, ...]:
    """Differences between parameters.

    Raises:
        PromptError: something in the parameters has no canonical form.
    """
    asked, stored = asked.guarded(), stored.guarded()
    left, right = _plain_parameters(asked), _plain_parameters(stored)
    names = asked.__struct_fields__
    found = tuple(one for name in names for one in _values(name, left.get(name, UNSET), right.get(name, UNSET)))
    if not found and asked.sealed and stored.sealed and asked.sealed != stored.sealed:
        return (Difference("extra_headers", "values that are not kept", "others"),)
    return found


def quoted(text: str, at: int = 0, *, ascii_only: bool = False) -> str:
    """An excerpt of a text around a character, in double quotes, safe to print; ellipses stand for what is left out."""
    start, room = at, _BEFORE
    while start and (room := room - len(_shown_character(text[start - 1 : start], ascii_only, quotes=True))) >= 0:
        start -= 1
    excerpt = escaped(text[start:], _WIDTH, ascii_only=ascii_only, quotes=True)
    return f'"{"…" if start else ""}{excerpt}"'


def escaped(text: str, width: int, *, ascii_only: bool = False, quotes: bool = False) -> str:
    """The beginning of a text, safe to print: no control characters, nothing invisible, no more than ``width`` columns.

    Args:
        text: any text, however long or hostile.
        width: characters to show; an ellipsis stands for the rest.
        ascii_only: also escape all that is not ASCII, for texts that look alike.
        quotes: also escape double quotes and backslashes.
    """
    shown: list[str] = []
    for character in text:
        shown.append(_shown_character(character, ascii_only, quotes=quotes))
        width -= len(shown[-1])
        if width < 0:
            return "".join(shown[:-1]) + "…"
    return "".join(shown)


def _shown_character(character: str, ascii_only: bool, *, quotes: bool) -> str:
    if quotes and character in '"\\':
        return "\\" + character
    if character.isprintable() and (character.isascii() or not ascii_only):
        return character
    return character.encode("unicode_escape").decode()


# Messages and their parts


def _messages(asked: Sequence[Message], stored: Sequence[Message]) -> Iterator[Difference]:
    for i, j, is_same in aligned(asked, stored, _role):
        if is_same:
            continue
        path = f"messages[{j if i is None else i}]"
        if i is None or j is None:
            yield Difference(path, _summary(asked, i), _summary(stored, j))
        else:
            yield from _values(f"{path}.role", asked[i].role, stored[j].role)
            yield from _parts(path, asked[i].parts, stored[j].parts)


def _parts(path: str, asked: Sequence[Any], stored: Sequence[Any]) -> Iterator[Difference]:
    """Parts are named by their kind, and numbered where there are several of it."""
    several = Counter(map(_kind, asked)) | Counter(map(_kind, stored))
    for i, j, is_same in aligned(asked, stored, _kind):
        if is_same:
            continue
        owner, number = (stored, j or 0) if i is None else (asked, i)
        kind = _kind(owner[number])
        if several[kind] > 1:
            kind += f"[{[_kind(part) for part in owner[:number]].count(kind)}]"
        if i is None or j is None:
            yield Difference(f"{path}.{kind}", _part_summary(asked, i), _part_summary(stored, j))
        elif _kind(asked[i]) != _kind(stored[j]):
            yield Difference(f"{path}.parts[{i}]", _part_summary(asked, i), _part_summary(stored, j))
        else:
            yield from _values(f"{path}.{kind}", _plain_part(asked[i]), _plain_part(stored[j]))


def _role(message: Message) -> str:
    return message.role


def _kind(part: Any) -> str:
    return str(part.__struct_config__.tag)


class _Named(msgspec.Struct, frozen=True):
    """A value that is compared by one text and shown as another."""

    identity: str
    shown: str


class _Parts(msgspec.Struct, frozen=True):
    """The parts of a tool's result."""

    parts: Sequence[Any]

    def __canonical__(self) -> object:
        return [part.__canonical__() for part in self.parts]


def _plain_part(part: Any) -> object:
    """What identifies a part, by name; what has no name of its own stands under None."""
    match part:
        case Text():
            return part.text
        case Image() | File():
            return _plain_media(part)
        case ToolCall():
            return {"id": part.id, "name": part.name, "arguments": part.arguments}
        case ToolResult():
            result = part.result if isinstance(part.result, str) else _Parts(part.result)
            return {"tool_call_id": part.tool_call_id, "is_error": part.is_error, "result": result}
        case Thinking():
            return _set({None: part.text, "signature": part.signature, "redacted": part.redacted})
        case ProviderBlock():
            return {"wire": part.wire, "block": part.block}
    raise TypeError(f"{type(part).__name__} is no part of a message.")


def _plain_media(media: Image | File) -> object:
    own = {"detail": media.detail} if isinstance(media, Image) else {"filename": media.filename}
    if media.url is not None:
        return _set({None: media.url, **own})
    content = _Named(media.digest, f"SHA-256 {media.digest[:12]}… ({len(media.data or b''):,} bytes)")
    return _set({None: content, "media_type": media.media_type, **own})


def _summary(messages: Sequence[Message], number: int | None) -> str:
    if number is None:
        return "nothing"
    message = messages[number]
    return f"{message.role} {_part_summary(message.parts, 0)}" if message.parts else f"{message.role} without parts"


def _part_summary(parts: Sequence[Any], number: int | None) -> str:
    if number is None:
        return "nothing"
    match parts[number]:
        case Text(text):
            return quoted(text)
        case ToolCall(_, name):
            return f"tool call {quoted(name)}"
        case part:
            return _kind(part).replace("_", " ")


# Plain values


def _values(path: str, asked: object, stored: object) -> Iterator[Difference]:
    if isinstance(asked, str) and isinstance(stored, str):
        if asked != stored:
            yield _texts(path, asked, stored)
    elif isinstance(asked, dict) and isinstance(stored, dict):
        for name in {**asked, **stored}:
            yield from _values(path + _step(name), asked.get(name, UNSET), stored.get(name, UNSET))
    elif isinstance(asked, list) and isinstance(stored, list):
        for i, j, is_same in aligned(asked, stored, _name_or_type):
            if not is_same:
                left, right = UNSET if i is None else asked[i], UNSET if j is None else stored[j]
                yield from _values(f"{path}[{j if i is None else i}]", left, right)
    elif isinstance(asked, _Parts) and isinstance(stored, _Parts):
        yield from _parts(path, asked.parts, stored.parts)
    elif not same(asked, stored):
        yield Difference(path, _shown(asked), _shown(stored))


def _texts(path: str, asked: str, stored: str) -> Difference:
    at = shared_prefix(asked, stored)
    alike = _may_look_alike(asked[at : at + 1], stored[at : at + 1])
    return Difference(path, quoted(asked, at, ascii_only=alike), quoted(stored, at, ascii_only=alike), at)


def _may_look_alike(left: str, right: str) -> bool:
    """Whether two characters, or one and the end of a text, may look the same: one marks the character before, is not
    ASCII where the other is (quotation marks, letters of another alphabet), or both are forms of one character."""
    if any(unicodedata.category(character).startswith("M") for character in left + right):
        return True
    if left.isascii() != right.isascii():
        return True
    return bool(left) and unicodedata.normalize("NFKC", left) == unicodedata.normalize("NFKC", right)


def _plain_parameters(parameters: Parameters) -> dict[Any, Any]:
    plain = {name: getattr(parameters, name) for name in parameters.__struct_fields__}
    headers = {
        name: _Named(digest, f"SHA-256 {digest[:12]}…" if digest else "a value that is not kept")
        for name, digest in parameters.extra_headers.items()
    }
    return _set({**plain, "extra_headers": headers, "sealed": None})


def _set(values: dict[Any, Any]) -> dict[Any, Any]:
    """Attributes that are set. In users' own data, null is a value like others."""
    return {name: value for name, value in values.items() if value is not None}


def _name_or_type(value: object) -> str:
    return str(value.get("name", "")) if isinstance(value, dict) else type(value).__name__


def _step(name: object) -> str:
    if name is None:
        return ""
    text = str(name)
    return f".{text}" if len(text) <= _NAME_WIDTH and _PLAIN_NAME.fullmatch(text) else f"[{quoted(text)}]"


def _shown(value: object) -> str:
    match value:
        case msgspec.UnsetType():
            return "not set"
        case str():
            return quoted(value)
        case _Named():
            return value.shown
        case _Parts():
            return f"{len(value.parts)} parts"
    return escaped(encode(value).decode(), _WIDTH)
