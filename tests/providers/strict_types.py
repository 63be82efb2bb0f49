"""The official SDKs' request types as strict validators of JSON bodies.

As they are, pydantic judges these types too mildly: it reads ``Iterable`` lazily and so never looks inside, a TypedDict
lets unknown keys pass, and unions hold response models and file objects that accept nearly anything. Here every
``Iterable`` becomes a list, every TypedDict forbids extra keys, and arms that no JSON can be are dropped.
"""

import collections.abc
import types
from functools import cache
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict, get_type_hints, is_typeddict

__all__ = ["ValidationError", "anthropic_body", "openai_body", "strict"]

_JSON = (str, int, float, bool, type(None), object, Any)


def strict(annotation: Any) -> Any:
    """``annotation``, judged strictly, or None for a type that no JSON value has."""
    if annotation in _JSON or get_origin(annotation) is Literal:
        return annotation
    if is_typeddict(annotation):
        return _strict_typed_dict(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Required, NotRequired, Annotated):
        return strict(arguments[0])
    if origin in (Union, types.UnionType):
        arms = [arm for arm in map(strict, arguments) if arm is not None]
        return Union[tuple(arms)] if arms else None  # noqa: UP007
    if origin in (list, collections.abc.Iterable, collections.abc.Sequence) or _name(origin) == "SequenceNotStr":
        return list[strict(arguments[0])]
    if origin in (dict, collections.abc.Mapping):
        return dict[strict(arguments[0]), strict(arguments[1])]
    return None


@cache
def _strict_typed_dict(typed_dict: Any) -> Any:
    hints = get_type_hints(typed_dict, include_extras=True)
    fields = {
        name: (Required if _is_required(typed_dict, hint) else NotRequired)[_field(typed_dict, name, hint)]
        for name, hint in hints.items()
    }
    made = TypedDict(typed_dict.__name__, fields)
    made.__pydantic_config__ = {"extra": "forbid", **getattr(typed_dict, "__pydantic_config__", {})}
    return made


def _is_required(typed_dict: Any, hint: Any) -> bool:
    # __required_keys__ is wrong where annotations are postponed: the class could not see Required when it was made.
    marked = (Required, NotRequired)
    return get_origin(hint) is Required if get_origin(hint) in marked else typed_dict.__total__


def _field(typed_dict: Any, name: str, hint: Any) -> Any:
    judged = strict(hint)
    assert judged is not None, f"{typed_dict.__name__}.{name}: {hint} is not understood"
    return judged


def _name(origin: Any) -> str:
    return getattr(origin, "__name__", "")


@cache
def anthropic_body() -> TypeAdapter[Any]:
    """Judge of bodies of ``POST /v1/messages``, as version 2026-10-21 of the API takes them."""
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

    return TypeAdapter(strict(MessageCreateParamsNonStreaming))


@cache
def openai_body() -> TypeAdapter[Any]:
    """Judge of bodies of ``POST /chat/completions``."""
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

    return TypeAdapter(strict(CompletionCreateParamsNonStreaming))
