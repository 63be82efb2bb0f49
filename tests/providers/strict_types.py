"""The official SDKs' request types as strict validators of JSON bodies.

As they are, pydantic judges these types too mildly: it reads ``Iterable`` lazily and so never looks inside, a TypedDict
lets unknown keys pass, and unions hold response models, file objects and open-ended enumerations that accept nearly
anything. Here every ``Iterable`` becomes a list, every TypedDict forbids extra keys, and such arms are dropped.

The SDKs of Mistral and OpenRouter are generated from those services' own OpenAPI documents, so a body that passes here
is one that the document allows. OpenRouter serves both wire formats, which makes its document a second opinion on the
bodies for OpenAI and Anthropic, by other people.
"""

import collections.abc
import datetime
import sys
import types
from functools import cache
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypeAliasType, TypedDict, get_original_bases, get_type_hints, is_typeddict

__all__ = [
    "ValidationError",
    "anthropic_body",
    "mistral_body",
    "openai_body",
    "openrouter_body",
    "openrouter_messages_body",
    "strict",
]

_JSON = (str, int, float, bool, type(None), datetime.date, datetime.datetime, object, Any)


def strict(annotation: Any) -> Any:
    """``annotation``, judged strictly, or None for a type that no JSON value has."""
    if annotation in _JSON or get_origin(annotation) is Literal:
        return annotation
    if is_typeddict(annotation):
        return _strict_typed_dict(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, TypeAliasType):
        return strict(annotation.__value__)
    if isinstance(origin, TypeAliasType):
        return strict(origin.__value__[arguments])
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
    names = _wire_names(typed_dict)
    fields = {
        names.get(name, name): (Required if _is_required(typed_dict, name, hint) else NotRequired)[
            _field(typed_dict, name, hint)
        ]
        for name, hint in hints.items()
    }
    made = TypedDict(typed_dict.__name__, fields)
    made.__pydantic_config__ = {"extra": "forbid", **getattr(typed_dict, "__pydantic_config__", {})}
    return made


def _wire_names(typed_dict: Any) -> dict[str, str]:
    """Fields whose name in JSON is another, as the model beside a generated TypedDict has them."""
    model = getattr(sys.modules[typed_dict.__module__], typed_dict.__name__.removesuffix("TypedDict"), None)
    fields = getattr(model, "model_fields", {})
    return {name: field.alias for name, field in fields.items() if field.alias}


def _is_required(typed_dict: Any, name: str, hint: Any) -> bool:
    # __required_keys__ is wrong where annotations are postponed: the class could not see Required when it was made.
    if get_origin(hint) in (Required, NotRequired):
        return get_origin(hint) is Required
    for base in get_original_bases(typed_dict):  # whether all are required is said by the class that has the field
        if is_typeddict(base) and name in base.__annotations__:
            return _is_required(base, name, hint)
    return bool(typed_dict.__total__)


def _field(typed_dict: Any, name: str, hint: Any) -> Any:
    judged = strict(hint)
    assert judged is not None, f"{typed_dict.__name__}.{name}: {hint} is not understood"
    return judged


def _name(origin: Any) -> str:
    return getattr(origin, "__name__", "")


@cache
def anthropic_body() -> TypeAdapter[Any]:
    """Judge of bodies of ``POST /v1/messages``, as version 2026-10-21 of the API takes them."""
    from anthropic.types.message_create_params import MessageCreateParams

    return TypeAdapter(strict(MessageCreateParams))


@cache
def openai_body() -> TypeAdapter[Any]:
    """Judge of bodies of ``POST /chat/completions``."""
    from openai.types.chat.completion_create_params import CompletionCreateParams

    return TypeAdapter(strict(CompletionCreateParams))


@cache
def mistral_body() -> TypeAdapter[Any]:
    """Judge of bodies of Mistral's ``POST /v1/chat/completions``."""
    from mistralai.client.models.chatcompletionrequest import ChatCompletionRequestTypedDict

    return TypeAdapter(strict(ChatCompletionRequestTypedDict))


@cache
def openrouter_body() -> TypeAdapter[Any]:
    """Judge of bodies of OpenRouter's ``POST /chat/completions``."""
    from openrouter.components.chatrequest import ChatRequestTypedDict

    return TypeAdapter(strict(ChatRequestTypedDict))


@cache
def openrouter_messages_body() -> TypeAdapter[Any]:
    """Judge of bodies of OpenRouter's ``POST /messages``, which is Anthropic's format."""
    from openrouter.components.messagesrequest import MessagesRequestTypedDict

    return TypeAdapter(strict(MessagesRequestTypedDict))
