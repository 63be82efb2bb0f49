"""Tools that a model may call: a name, a description and a JSON schema, with or without a function behind them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from lm_deluge._optional import require
from lm_deluge.errors import ConfigError

__all__ = ["Tool"]


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
        if not (0 < len(self.name) <= 64 and all(c.isascii() and (c.isalnum() or c in "_-") for c in self.name)):
            raise ConfigError(f"{self.name!r} cannot be a tool's name: 1 to 64 letters, digits, '_' and '-' are allowed.")
        if not isinstance(self.parameters, Mapping):
            raise ConfigError(f"The parameters of tool {self.name!r} are not a JSON schema but {self.parameters!r}.")
        msgspec.structs.force_setattr(self, "parameters", self._schema())
        msgspec.structs.force_setattr(self, "required", None)

    def _schema(self) -> dict[str, Any]:
        if self.parameters.get("type") == "object":
            return dict(self.parameters)
        if isinstance(self.parameters.get("type"), str):
            raise ConfigError(f"The parameters of tool {self.name!r} must be a schema of type object.")
        required = list(self.parameters) if self.required is None else list(self.required)
        return {"type": "object", "properties": dict(self.parameters), "required": required}

    @classmethod
    def from_function(cls, function: Callable[..., Any], *, strict: bool | None = None) -> "Tool":
        """A tool from a typed function: its name, its docstring and the schema of its parameters.

        Needs ``pydantic`` (extra ``tools``), which is imported here and not before.

        Raises:
            ConfigError: a parameter without a type, or ``*args`` or ``**kwargs``.
        """
        pydantic = require("pydantic", extra="tools", purpose="Tool.from_function")
        fields: dict[str, Any] = {}
        signature = inspect.signature(function, eval_str=True)
        for parameter in signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise ConfigError(f"{function.__name__}() takes {parameter}; a tool's parameters need names and types.")
            if parameter.annotation is parameter.empty:
                raise ConfigError(f"{function.__name__}({parameter.name}) has no type; a model needs one.")
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (parameter.annotation, default)
        model = pydantic.create_model(function.__name__, **fields)
        schema: dict[str, Any] = model.model_json_schema()
        return cls(
            name=function.__name__,
            description=inspect.getdoc(function) or "",
            parameters={"properties": {}, "required": [], **_without_titles(schema)},
            strict=strict,
            run=function,
        )

    async def call(self, **arguments: Any) -> Any:
        """Run the function behind the tool: awaited if it is asynchronous, in a worker thread if it is not.

        Raises:
            ConfigError: there is no function behind it.
        """
        if self.run is None:
            raise ConfigError(f"Tool {self.name!r} has no function to run; give it run=.")
        if inspect.iscoroutinefunction(self.run):
            return await self.run(**arguments)
        import asyncio

        return await asyncio.to_thread(self.run, **arguments)


def _without_titles(schema: Any, *, in_properties: bool = False) -> Any:
    """pydantic's schema without the generated titles, which cost tokens and say nothing."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_titles(value, in_properties=key in ("properties", "$defs"))
        for key, value in schema.items()
        if in_properties or not (key == "title" and isinstance(value, str))
    }
