"""Reading OpenAI-style message lists, the form in which most people's prompts already lie about.

A field that is not understood is an error rather than dropped: a prompt that silently lost a field would be answered,
and cached, as another prompt.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lm_deluge.errors import PromptError
from lm_deluge.prompt.media import File, Image
from lm_deluge.prompt.message import Message, Role
from lm_deluge.prompt.parts import Part, Text, ToolCall, ToolResult, as_arguments

__all__ = ["read_messages"]

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


def read_messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Messages from an OpenAI-style list. Tool results that follow each other become one message.

    Raises:
        PromptError: something in the list has no counterpart.
    """
    read: list[Message] = []
    for index, raw in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(raw, Mapping):
            raise PromptError(f"{where} is a {type(raw).__name__}; an object with 'role' and 'content' is needed.")
        message = _read_message(raw, where)
        if message.role == "tool" and read and read[-1].role == "tool":
            read[-1] = Message("tool", (*read[-1].parts, *message.parts))
        else:
            read.append(message)
    return read


def _read_message(raw: Mapping[str, Any], where: str) -> Message:
    role = _ROLES.get(raw.get("role", ""))
    if role is None:
        raise PromptError(f"{where} has the role {raw.get('role')!r}; known roles are {', '.join(_ROLES)}.")
    if role == "tool":
        _only(raw, {"role", "content", "tool_call_id"}, where)
        content = raw.get("content", "")
        result = content if isinstance(content, str) else _read_parts(content, where)
        return Message("tool", (ToolResult.of(str(raw.get("tool_call_id", "")), result),))
    parts = _read_parts(raw.get("content"), where)
    _only(raw, {"role", "content", *(("tool_calls", "refusal") if role == "assistant" else ())}, where)
    if raw.get("refusal"):
        parts.append(Text(raw["refusal"]))
    parts.extend(_read_tool_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(raw.get("tool_calls") or ()))
    return Message(role, parts)


def _read_parts(content: object, where: str) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)]
    if not isinstance(content, Sequence):
        raise PromptError(f"{where}.content is a {type(content).__name__}; a string or a list of parts is needed.")
    return [_read_part(part, f"{where}.content[{i}]") for i, part in enumerate(content)]


def _read_part(part: object, where: str) -> Part:
    match part:
        case {"type": "text", "text": str(text)}:
            _only(part, {"type", "text"}, where)
            return Text(text)
        case {"type": "image_url", "image_url": {"url": str(url), **details}}:
            _only(part, {"type", "image_url"}, where)
            _only(details, {"detail"}, f"{where}.image_url")
            return Image.of(url, detail=details.get("detail"))
        case {"type": "file", "file": {"file_data": str(data), **details}}:
            _only(part, {"type", "file"}, where)
            _only(details, {"filename"}, f"{where}.file")
            return File.of(data, filename=details.get("filename"))
        case {"type": kind}:
            raise PromptError(f"{where} has the type {kind!r}; text, image_url and file (with file_data) are known.")
        case _:
            raise PromptError(f"{where} is not an object with a 'type'.")


def _read_tool_call(call: object, where: str) -> ToolCall:
    match call:
        case {"id": str(id), "function": {"name": str(name), "arguments": str() | Mapping() as arguments}}:
            _only(call, {"id", "type", "function", "index"}, where)
            return ToolCall(id, name, as_arguments(arguments))
        case _:
            raise PromptError(f"{where} needs an id and a function with a name and arguments.")


def _only(raw: Mapping[str, Any], known: set[str], where: str) -> None:
    """Refuse fields that say something and are not read. SDK dumps hold many that are None or empty."""
    unknown = [name for name, value in raw.items() if name not in known and value not in (None, [], {}, "")]
    if unknown:
        raise PromptError(f"{where} has the field {unknown[0]!r}, which is not supported; remove it.")
