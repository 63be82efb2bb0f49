"""Strict decoding of request bodies, with errors as values that each wire format puts into its provider's words.

msgspec checks a body while decoding it but leaves list positions out of its error paths. Providers name them
(``messages.0.content.1``), so on the error path, and only there, the failing element is looked for.
"""

import re
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from lm_deluge.errors import LMDelugeError

__all__ = ["Path", "Rejection", "ShapeProblem", "decode"]

T = TypeVar("T")
Path: TypeAlias = tuple[str | int, ...]


class ShapeProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the shape of a body.

    Attributes:
        kind: ``syntax`` (not JSON), ``missing`` or ``unknown`` (a field; the path ends with its name), ``type``,
            ``value`` (none of the allowed ones), ``range`` (a number or a length).
        path: the place, from the top.
        expected: the type, or the bound such as ``<= 2``.
        got: the type or the value found; empty where it is not known.
    """

    kind: Literal["syntax", "missing", "unknown", "type", "value", "range"]
    path: Path = ()
    expected: str = ""
    got: str = ""


class Rejection(LMDelugeError):
    """The emulated provider refuses a request. It becomes an HTTP answer and never leaves the emulator.

    Args:
        message: the provider's message.
        status: the HTTP status.
        type: the provider's error type; None for the one that belongs to the status.
        param: the parameter at fault (OpenAI).
        code: the machine-readable code (OpenAI ``code``, Anthropic ``details.error_code``).
        headers: further response headers.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type
        self.param = param
        self.code = code
        self.headers = headers


def decode(body: bytes, decoder: "msgspec.json.Decoder[T]") -> T | ShapeProblem:
    """Decode a body, or say what is wrong with it."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        return _problem(str(error), msgspec.json.decode(body), decoder.type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return ShapeProblem(kind="syntax", got=str(error))


_PLACE = re.compile(r"^(?P<what>.*?)(?: - at (?P<key>key in )?`\$(?P<path>.*)`)?$", re.DOTALL)
_SEGMENT = re.compile(r"\.([^.\[\]]+)|\[(\.\.\.|\d+)\]")
_FIELD = re.compile(r"Object (?P<kind>missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL)
_TYPE = re.compile(r"Expected `(?P<expected>.*)`, got `(?P<got>.*)`", re.DOTALL)
_VALUE = re.compile(r"Invalid (?:enum )?value (?P<got>.*)", re.DOTALL)
_RANGE = re.compile(r"Expected `(?P<type>[^`]*)` (?P<bound>.*)", re.DOTALL)


def _problem(message: str, document: Any, expected_type: Any) -> ShapeProblem:
    place = _PLACE.match(message)
    what, raw_path = (place["what"], place["path"] or "") if place else (message, "")
    path = _locate(raw_path, message, document, expected_type)
    if found := _FIELD.fullmatch(what):
        kind: Literal["missing", "unknown"] = "missing" if found["kind"].startswith("missing") else "unknown"
        return ShapeProblem(kind=kind, path=(*path, found["name"]))
    if found := _TYPE.fullmatch(what):
        return ShapeProblem(kind="type", path=path, expected=found["expected"], got=found["got"])
    if found := _VALUE.fullmatch(what):
        return ShapeProblem(kind="value", path=path, got=found["got"].strip("'"))
    if found := _RANGE.fullmatch(what):
        return ShapeProblem(kind="range", path=path, expected=f"{found['type']} {found['bound']}")
    return ShapeProblem(kind="value", path=path, got=what)


def _locate(raw_path: str, message: str, document: Any, expected_type: Any) -> Path:
    """Replace each ``[...]`` of a msgspec path by the position (or key) of the first element that fails alike."""
    path: list[str | int] = []  # as reported
    steps: list[str | int] = []  # as walked, in a document narrowed to the failing elements
    for name, index in _SEGMENT.findall(raw_path):
        if name or index != "...":
            step = name or int(index)
            path.append(step)
            steps.append(step)
            continue
        container = _at(document, steps)
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            only = {key: container[key]} if isinstance(container, dict) else [container[key]]
            narrowed = _replaced(document, steps, only)
            if _fails_alike(narrowed, expected_type, message):
                document = narrowed
                path.append(key)
                steps.append(key if isinstance(container, dict) else 0)
                break
        else:
            break
    return tuple(path)


def _fails_alike(document: Any, expected_type: Any, message: str) -> bool:
    try:
        msgspec.json.decode(msgspec.json.encode(document), type=expected_type)
    except msgspec.ValidationError as error:
        return str(error) == message
    return False


def _at(document: Any, steps: list[str | int]) -> Any:
    for step in steps:
        document = document[step]
    return document


def _replaced(document: Any, steps: list[str | int], value: Any) -> Any:
    if not steps:
        return value
    copy: Any = dict(document) if isinstance(document, dict) else list(document)
    copy[steps[0]] = _replaced(document[steps[0]], steps[1:], value)
    return copy
