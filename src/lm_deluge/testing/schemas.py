"""The smallest JSON value that satisfies a JSON schema: arguments of forced tool calls and structured answers."""

from collections.abc import Mapping
from typing import Any

__all__ = ["example"]

_DEPTH = 32


def example(schema: Mapping[str, Any], *, text: str = "text") -> Any:
    """A value for ``schema``: required properties only, first enum value, first alternative, least numbers.

    Args:
        schema: a JSON schema. ``$ref`` within the document, ``allOf``, ``anyOf``, ``oneOf``, ``const``, ``enum``,
            lengths and bounds are understood; patterns and formats are not.
        text: what free strings hold, cut or padded to the schema's length bounds.
    """
    return _value(schema, schema, text, 0)


def _value(schema: Any, root: Mapping[str, Any], text: str, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _DEPTH:
        return None
    if "$ref" in schema:
        return _value(_resolve(schema["$ref"], root), root, text, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return _value({**_without(schema, key), **schema[key][0]}, root, text, depth + 1)
    if schema.get("allOf"):
        return _value(_merged(schema, root), root, text, depth + 1)
    return _of_type(_type(schema), schema, root, text, depth)


def _of_type(kind: str, schema: Mapping[str, Any], root: Mapping[str, Any], text: str, depth: int) -> Any:
    match kind:
        case "object":
            properties = schema.get("properties") or {}
            required = schema.get("required") or ()
            return {name: _value(properties.get(name, {}), root, text, depth + 1) for name in required}
        case "array":
            prefix = [_value(item, root, text, depth + 1) for item in schema.get("prefixItems") or ()]
            missing = max(0, schema.get("minItems", 0) - len(prefix))
            return prefix + [_value(schema.get("items") or {}, root, text, depth + 1) for _ in range(missing)]
        case "string":
            return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), "x")
        case "integer":
            return _least(schema, 1)
        case "number":
            return float(_least(schema, 1))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return text


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else ""


def _least(schema: Mapping[str, Any], step: int) -> int | float:
    if "minimum" in schema:
        lowest: int | float = schema["minimum"]
    elif "exclusiveMinimum" in schema:
        lowest = schema["exclusiveMinimum"] + step
    else:
        highest = schema.get("maximum", schema.get("exclusiveMaximum", step + 1) - step)
        lowest = min(step, highest)
    multiple = schema.get("multipleOf")
    return -(-lowest // multiple) * multiple if multiple else lowest


def _resolve(reference: Any, root: Mapping[str, Any]) -> Any:
    target: Any = root
    for part in str(reference).removeprefix("#").strip("/").split("/"):
        if part:
            target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
    return target


def _merged(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    merged = _without(schema, "allOf")
    for part in schema["allOf"]:
        while isinstance(part, Mapping) and "$ref" in part:
            part = _resolve(part["$ref"], root)
        if isinstance(part, Mapping):
            properties = {**(merged.get("properties") or {}), **(part.get("properties") or {})}
            required = [*(merged.get("required") or ()), *(part.get("required") or ())]
            merged = {**merged, **part, "properties": properties, "required": required}
    return merged


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}
