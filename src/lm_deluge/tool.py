"""Tools that a model may call: a name, a description and a JSON schema, with or without a function behind them."""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from lm_deluge._optional import require
from lm_deluge.canonical import plain
from lm_deluge.errors import ConfigError, PromptError

__all__ = ["Tool"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VALUES = frozenset({"default", "const", "enum", "examples"})
_NAMED_SCHEMAS = frozenset({"properties", "patternProperties", "$defs"})


class Tool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tool, defined by its schema.

    ``parameters`` is a JSON schema of type object. A plain mapping of property names to schemas is taken as such an
    object's properties, all required unless ``required`` says otherwise::

        Tool(name="weather", description="Weather in a city.", parameters={"city": {"type": "string"}})

    Attributes:
        name: letters, digits, ``_`` and ``-``, at most 64, as every provider requires.
        description: what the tool does, for the model.
        parameters: the JSON schema of the arguments.
        required: names of required properties, where ``parameters`` is given as plain properties.
        strict: ask the provider to hold the model to the schema; None leaves the field out.
        run: the function behind the tool, if any. It is not part of the prompt.

    Raises:
        ConfigError: a name that no provider takes, or parameters that are no schema of an object.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    required: Sequence[str] | None = None
    strict: bool | None = None
    run: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        name: object = self.name
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise ConfigError(f"{self.name!r} cannot be a tool's name: 1 to 64 letters, digits, '_' and '-'.")
        msgspec.structs.force_setattr(self, "parameters", self._schema())
        msgspec.structs.force_setattr(self, "required", None)

    def _schema(self) -> dict[str, Any]:
        """A schema of type object, copied, so that what the caller's mapping goes through later changes nothing."""
        try:
            given = plain(self.parameters)
        except PromptError as error:
            raise ConfigError(f"The parameters of tool {self.name!r} are no JSON schema: {error}") from error
        if not isinstance(given, dict):
            raise ConfigError(f"The parameters of tool {self.name!r} are not a JSON schema but {given!r}.")
        if "type" not in given and _is_mapping_of_schemas(given.get("properties")):
            given["type"] = "object"  # left out by many
        if given.get("type") == "object":
            if self.required is not None:
                raise ConfigError(f"Tool {self.name!r} has a whole schema; put required= into it.")
            return given
        for name, schema in given.items():
            if not isinstance(schema, (dict, bool)):
                raise ConfigError(
                    f"The parameters of tool {self.name!r} have {name}={schema!r}. A schema of type object is needed, "
                    "or a mapping of property names to schemas."
                )
        required = list(given) if self.required is None else list(self.required)
        if unknown := [name for name in required if name not in given]:
            raise ConfigError(f"Tool {self.name!r} requires {unknown[0]!r}, which is none of its parameters.")
        return {"type": "object", "properties": given, "required": required}

    @classmethod
    def from_function(cls, function: Callable[..., Any], *, strict: bool | None = None) -> "Tool":
        """A tool from a typed function: its name, its docstring and the schema of its parameters.

        Needs ``pydantic`` (extra ``tools``), which is imported here and not before. What the model sends is checked and
        converted by pydantic before the function runs, so a parameter may be an enumeration, a date or a model.

        Raises:
            ConfigError: a parameter without a type or of a type that has no schema, ``*args``, or ``**kwargs``.
        """
        pydantic = require("pydantic", extra="tools", purpose="Tool.from_function")
        name = getattr(function, "__name__", None)
        if name is None or inspect.isclass(function):
            raise ConfigError(f"{function!r} is not a function; give Tool(name=..., parameters=..., run=...) instead.")
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise ConfigError(f"{name}() takes {parameter}; a tool's parameters are passed by name, one by one.")
            if parameter.annotation is parameter.empty:
                raise ConfigError(f"{name}({parameter.name}) has no type; a model needs one.")
        try:
            schema = pydantic.TypeAdapter(function).json_schema()
            run = pydantic.validate_call(function)
        except (NameError, pydantic.PydanticUserError) as error:
            raise ConfigError(f"The types of {name}() have no JSON schema: {error}") from error
        return cls(
            name=name,
            description=inspect.getdoc(function) or "",
            parameters={"properties": {}, "required": [], **_without_titles(schema)},
            strict=strict,
            run=run,
        )

    async def call(self, /, **arguments: Any) -> Any:
        """Run the function behind the tool: awaited if it is asynchronous, in a worker thread if it is not.

        Raises:
            ConfigError: there is no function behind it.
            pydantic.ValidationError: the arguments do not fit a function given to ``from_function``.
        """
        if self.run is None:
            raise ConfigError(f"Tool {self.name!r} has no function to run; give it run=.")
        if inspect.iscoroutinefunction(self.run):
            return await self.run(**arguments)
        import asyncio

        result = await asyncio.to_thread(self.run, **arguments)
        return await result if inspect.isawaitable(result) else result


def _is_mapping_of_schemas(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())


def _without_titles(schema: Any, *, is_schema: bool = True) -> Any:
    """pydantic's schema without the generated titles, which cost tokens and say nothing.

    Names of properties and values such as defaults are not schemas, and keep what they hold.
    """
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if not is_schema:
        return {name: _without_titles(item) for name, item in schema.items()}
    return {
        key: value if key in _VALUES else _without_titles(value, is_schema=key not in _NAMED_SCHEMAS)
        for key, value in schema.items()
        if key != "title"
    }
