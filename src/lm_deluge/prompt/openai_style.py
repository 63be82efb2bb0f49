"""Reading OpenAI-style message lists, the form in which most people's prompts already lie about.

A field that is not understood is an error rather than dropped: a prompt that silently lost a field would be answered,
and cached, as another prompt.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from lm_deluge.errors import MediaError, PromptError
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
_FIELDS_OF_ROLE: Mapping[str, tuple[str, ...]] = {"assistant": ("tool_calls", "refusal"), "tool": ("tool_call_id",)}

M = TypeVar("M", Image, File)


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
    given = raw.get("role")
    role = _ROLES.get(given) if isinstance(given, str) else None
    if role is None:
        raise PromptError(f"{where} has the role {given!r}; known roles are {', '.join(_ROLES)}.")
    _only(raw, {"role", "content", *_FIELDS_OF_ROLE.get(role, ())}, where)
    if role == "tool":
        return Message("tool", (_read_tool_result(raw, where),))
    parts = _read_parts(raw.get("content"), where)
    if raw.get("refusal"):
        parts.append(Text(_string(raw["refusal"], f"{where}.refusal")))
    calls = raw.get("tool_calls") or ()
    if not isinstance(calls, Sequence):
        raise PromptError(f"{where}.tool_calls is a {type(calls).__name__}; a list is needed.")
    parts.extend(_read_tool_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls))
    return Message(role, parts)


def _read_tool_result(raw: Mapping[str, Any], where: str) -> ToolResult:
    call_id = _string(raw.get("tool_call_id"), f"{where}.tool_call_id")
    content = raw.get("content")
    if isinstance(content, str):
        return ToolResult(call_id, content)
    parts = _read_parts(content, where)
    result = [part for part in parts if isinstance(part, (Text, Image))]
    if len(result) != len(parts):
        raise PromptError(f"{where}.content holds a file; a tool's result is text, or text and images.")
    return ToolResult(call_id, result or "")


def _read_parts(content: object, where: str) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)]
    if not isinstance(content, Sequence):
        raise PromptError(f"{where}.content is a {type(content).__name__}; a string or a list of parts is needed.")
    return [_read_part(part, f"{where}.content[{i}]") for i, part in enumerate(content)]


def _read_part(part: Any, where: str) -> Part:
    match part:
        case {"type": "text", "text": str(text)}:
            _only(part, {"type", "text"}, where)
            return Text(text)
        case {"type": "refusal", "refusal": str(text)}:
            _only(part, {"type", "refusal"}, where)
            return Text(text)
        case {"type": "image_url", "image_url": {"url": str(url)} as image}:
            _only(part, {"type", "image_url"}, where)
            _only(image, {"url", "detail"}, f"{where}.image_url")
            return _media(Image, url, f"{where}.image_url.url", detail=image.get("detail"))
        case {"type": "file", "file": {"file_data": str(data)} as file}:
            _only(part, {"type", "file"}, where)
            _only(file, {"file_data", "filename"}, f"{where}.file")
            return _media(File, data, f"{where}.file.file_data", filename=file.get("filename"))
        case {"type": kind}:
            raise PromptError(
                f"{where} of type {kind!r} cannot be read. Known are text, refusal, image_url with a url, "
                "and file with file_data."
            )
        case _:
            raise PromptError(f"{where} is not an object with a 'type'.")


def _media(kind: type[M], source: str, where: str, **fields: Any) -> M:
    try:
        media = kind.of(source, **fields)
    except MediaError as error:
        raise MediaError(f"{where}: {error}") from error
    if media.path is not None:
        # Such lists often come from elsewhere, and what they say must not decide which local files are sent.
        raise PromptError(
            f"{where} is neither a data URL nor an http(s) URL. For a local file use Message.with_image or with_file."
        )
    return media


def _read_tool_call(call: Any, where: str) -> ToolCall:
    match call:
        case {"id": str(id), "function": {"name": str(name), "arguments": str() | Mapping() as arguments} as function}:
            _only(call, {"id", "type", "function", "index"}, where)
            _only(function, {"name", "arguments"}, f"{where}.function")
            return ToolCall(id, name, as_arguments(arguments))
        case _:
            raise PromptError(f"{where} needs an id and a function with a name and arguments.")


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise PromptError(f"{where} is {value!r}; a string is needed.")
    return value


def _only(raw: Mapping[str, Any], known: set[str], where: str) -> None:
    """Refuse fields that say something and are not read. SDK dumps hold many that are None or empty."""
    for name, value in raw.items():
        if name not in known and value not in (None, [], {}, ""):
            raise PromptError(f"{where} has the field {name!r}, which is not supported; remove it.")
