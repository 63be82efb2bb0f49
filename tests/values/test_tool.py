"""Tools from schemas and from functions, and calling what is behind them."""

from __future__ import annotations

import asyncio
import datetime
import enum
import functools
import json
import threading
from typing import Annotated, Any, Literal, Optional

import pydantic
import pytest

from lm_deluge.errors import ConfigError
from lm_deluge.tool import Tool

CITY = {"city": {"type": "string", "description": "A city's name."}, "days": {"type": "integer"}}


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Street(pydantic.BaseModel):
    title: str
    number: int = 1


class Address(pydantic.BaseModel):
    """Where somebody lives."""

    street: Street
    others: list[Street] = []


class TestSchemas:
    def test_bare_properties_are_all_required(self):
        assert Tool(name="weather", parameters=CITY).parameters == {
            "type": "object",
            "properties": CITY,
            "required": ["city", "days"],
        }

    @pytest.mark.parametrize("required", [[], ["city"], ("days",), ["days", "city"]])
    def test_required_names_those_that_are(self, required):
        assert Tool(name="weather", parameters=CITY, required=required).parameters["required"] == list(required)

    def test_a_whole_schema_is_taken_as_it_is(self):
        schema = {"type": "object", "properties": CITY, "additionalProperties": False, "$defs": {}}
        assert Tool(name="weather", parameters=schema).parameters == schema
        untyped = {"properties": CITY, "required": ["city"]}
        assert Tool(name="weather", parameters=untyped).parameters == {**untyped, "type": "object"}

    def test_no_parameters(self):
        assert Tool(name="now").parameters == {"type": "object", "properties": {}, "required": []}

    @pytest.mark.parametrize("name", ["type", "properties", "required", "title"])
    def test_properties_may_have_any_name(self, name):
        schema = {"type": "string"}
        assert Tool(name="f", parameters={name: schema}).parameters == {
            "type": "object",
            "properties": {name: schema},
            "required": [name],
        }

    @pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 64])
    def test_names(self, name):
        assert Tool(name=name).name == name

    @pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a.b", "é", "a\n", "a/b", None, 5])
    def test_names_that_no_provider_takes(self, name):
        with pytest.raises(ConfigError, match="cannot be a tool's name"):
            Tool(name=name)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"parameters": {"type": "string"}}, "type='string'"),
            ({"parameters": {"city": "string"}}, "city='string'"),
            ({"parameters": {"properties": CITY, "required": "city"}, "required": ["city"]}, "whole schema"),
            ({"parameters": [CITY]}, "not a JSON schema"),
            ({"parameters": None}, "not a JSON schema"),
            ({"parameters": {"city": {"default": {1, 2}}}}, "no JSON schema: set"),
            ({"parameters": {"city": {"maximum": float("nan")}}}, "no JSON schema: nan"),
            ({"parameters": CITY, "required": ["town"]}, "requires 'town'"),
            ({"parameters": {"type": "object", "properties": CITY}, "required": ["city"]}, "whole schema"),
        ],
    )
    def test_what_is_no_schema(self, arguments, said):
        with pytest.raises(ConfigError, match=said):
            Tool(name="weather", **arguments)

    def test_what_was_given_can_be_changed_without_effect(self):
        given = json.loads(json.dumps(CITY))
        schema = {"type": "object", "properties": {"a": {"enum": [1]}}}
        bare, whole = Tool(name="f", parameters=given), Tool(name="f", parameters=schema)
        given["city"]["type"] = "number"
        schema["properties"]["a"]["enum"].append(2)
        assert bare == Tool(name="f", parameters=CITY)
        assert whole.parameters["properties"] == {"a": {"enum": [1]}}
        with pytest.raises(AttributeError):
            bare.name = "g"


class TestFromFunction:
    def test_a_typical_function(self):
        def weather(city: str, days: int = 3, unit: Literal["C", "F"] = "C", note: str | None = None) -> str:
            """Weather in a city.

            Over some days.
            """
            return ""

        tool = Tool.from_function(weather, strict=True)
        assert (tool.name, tool.description, tool.strict) == ("weather", "Weather in a city.\n\nOver some days.", True)
        assert tool.parameters == {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer", "default": 3},
                "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            },
            "required": ["city"],
            "additionalProperties": False,
        }

    @pytest.mark.parametrize(
        ("annotation", "schema"),
        [
            (list[int], {"type": "array", "items": {"type": "integer"}}),
            (dict, {"type": "object", "additionalProperties": True}),
            (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
            (Optional[bool], {"anyOf": [{"type": "boolean"}, {"type": "null"}]}),  # noqa: UP045 - what users write
            (Annotated[int, pydantic.Field(description="How many.", ge=1)], {"type": "integer", "minimum": 1}),
            (datetime.date, {"type": "string", "format": "date"}),
            (Any, {}),
        ],
    )
    def test_types(self, annotation, schema):
        def f(a): ...

        f.__annotations__["a"] = annotation
        found = Tool.from_function(f).parameters["properties"]["a"]
        assert {**found, **schema} == found
        assert "title" not in found

    def test_enumerations_and_models_become_definitions(self):
        def move(to: Address, paint: Color = Color.RED) -> None: ...

        parameters = Tool.from_function(move).parameters
        assert parameters["properties"] == {
            "to": {"$ref": "#/$defs/Address"},
            "paint": {"$ref": "#/$defs/Color", "default": "red"},
        }
        assert parameters["required"] == ["to"]
        assert set(parameters["$defs"]) == {"Address", "Street", "Color"}
        assert parameters["$defs"]["Color"] == {"type": "string", "enum": ["red", "blue"]}
        assert parameters["$defs"]["Address"]["description"] == "Where somebody lives."
        assert parameters["$defs"]["Address"]["properties"]["street"] == {"$ref": "#/$defs/Street"}
        assert "title" not in parameters["$defs"]["Address"]
        assert parameters["$defs"]["Street"]["properties"]["title"] == {"type": "string"}, "a property, not a title"

    def test_titles_go_and_data_stay(self):
        def f(properties: dict[str, Any] = {"title": "kept"}, title: Street = Street(title="kept")) -> None:  # noqa: B006, B008
            ...

        properties = Tool.from_function(f).parameters["properties"]
        assert properties["properties"]["default"] == {"title": "kept"}
        assert properties["title"]["default"] == {"title": "kept", "number": 1}
        assert "title" not in properties["properties"]

    def test_names_that_pydantic_models_reserve(self):
        def f(json: str, schema: int, model_config: str, _private: int, copy: bool = True) -> None: ...

        assert list(Tool.from_function(f).parameters["properties"]) == [
            "json",
            "schema",
            "model_config",
            "_private",
            "copy",
        ]

    def test_no_parameters_and_no_docstring(self):
        def now(): ...

        tool = Tool.from_function(now)
        assert tool.description == ""
        assert (tool.parameters["properties"], tool.parameters["required"]) == ({}, [])

    def test_a_method_has_no_self(self):
        class Shop:
            def price(self, item: str, *, count: int = 1) -> float:
                return 2.5 * count

        tool = Tool.from_function(Shop().price)
        assert (tool.name, list(tool.parameters["properties"])) == ("price", ["item", "count"])
        assert asyncio.run(tool.call(item="a", count=2)) == 5.0
        with pytest.raises(ConfigError, match=r"price\(self\) has no type"):
            Tool.from_function(Shop.price)

    def test_what_cannot_be_described(self):
        def many(*names: str): ...
        def named(**names: str): ...
        def by_place(a: int, /): ...
        def untyped(a: int, b): ...
        def unknown(a: Missing): ...  # noqa: F821
        def opaque(a: threading.Lock): ...

        for function, said in [
            (many, r"takes \*names"),
            (named, r"takes \*\*names"),
            (by_place, "by name"),
            (untyped, r"untyped\(b\) has no type"),
            (unknown, "Missing"),
            (opaque, "no JSON schema"),
            (functools.partial(untyped, b=1), "is not a function"),
            (Street, "is not a function"),
            (lambda: 1, "cannot be a tool's name"),
        ]:
            with pytest.raises(ConfigError, match=said):
                Tool.from_function(function)


class TestCall:
    def test_a_plain_function_runs_in_a_thread(self):
        def where() -> str:
            return threading.current_thread().name

        for tool in (Tool.from_function(where), Tool(name="where", run=where)):
            assert asyncio.run(tool.call()) != threading.current_thread().name

    def test_an_asynchronous_function_is_awaited_on_the_loop(self):
        async def where(a: int) -> tuple[str, int]:
            await asyncio.sleep(0)
            return threading.current_thread().name, a

        class Callable:
            async def __call__(self, a: int) -> tuple[str, int]:
                return await where(a)

        here = (threading.current_thread().name, 5)
        for tool in (
            Tool.from_function(where),
            Tool(name="where", run=where),
            Tool(name="where", run=functools.partial(where)),
            Tool(name="where", run=Callable()),
        ):
            assert asyncio.run(tool.call(a=5)) == here

    def test_arguments_become_what_the_function_asks_for(self):
        def f(to: Address, paint: Color, when: datetime.date, ids: set[int]) -> list[object]:
            return [to, paint, when, ids]

        arguments = '{"to": {"street": {"title": "High"}}, "paint": "blue", "when": "2026-01-02", "ids": [1, 1, 2]}'
        assert asyncio.run(Tool.from_function(f).call(**json.loads(arguments))) == [
            Address(street=Street(title="High")),
            Color.BLUE,
            datetime.date(2026, 1, 2),
            {1, 2},
        ]

    def test_arguments_that_do_not_fit_are_refused_before_the_function_runs(self):
        ran = []

        def f(a: int) -> None:
            ran.append(a)

        tool = Tool.from_function(f)
        for arguments in ({}, {"a": "many"}, {"a": 1, "b": 2}):
            with pytest.raises(pydantic.ValidationError):
                asyncio.run(tool.call(**arguments))
        assert not ran

    def test_an_argument_may_be_named_self(self):
        assert asyncio.run(Tool(name="f", run=lambda **given: given).call(self=1)) == {"self": 1}

    def test_what_the_function_raises_is_raised(self):
        def f() -> None:
            raise LookupError("gone")

        with pytest.raises(LookupError, match="gone"):
            asyncio.run(Tool.from_function(f).call())

    def test_without_a_function(self):
        with pytest.raises(ConfigError, match="run="):
            asyncio.run(Tool(name="f").call())
