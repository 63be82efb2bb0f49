"""Cut OpenAI's OpenAPI document down to what a Chat Completions request may be, and make it strict.

    python tests/providers/openapi/reduce.py openai-spec.yml > tests/providers/openapi/chat_request.json

The document lets unknown fields pass, and says "exactly one of" where several shapes fit. So objects that list their
fields are closed, and ``oneOf`` becomes ``anyOf``. Texts and examples are left out. Needs PyYAML.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = "CreateChatCompletionRequest"
# What says nothing about the shape of a body.
TEXTS = frozenset(
    {"title", "description", "example", "examples", "default", "deprecated", "discriminator", "externalDocs", "format"}
)
PREFIX = "#/components/schemas/"


def reduced(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document["components"]["schemas"]
    names, found = [ROOT], {}
    while names:
        name = names.pop()
        if name not in found:
            found[name] = simplified(schemas[name])
            names += references(found[name])
    parts = {name for schema in found.values() for name in parts_of(schema)}
    for name, schema in found.items():
        close(schema, is_part=name in parts)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": f"#/$defs/{ROOT}",
        "$defs": dict(sorted(found.items())),
    }


def simplified(schema: Any, *, names: bool = False) -> Any:
    """Without texts. ``names`` says that the keys are names of fields."""
    if isinstance(schema, list):
        return [simplified(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if names:
            result[key] = simplified(value)
        elif key == "$ref":
            result[key] = f"#/$defs/{value.removeprefix(PREFIX)}"
        elif key in ("enum", "const", "required"):
            result[key] = value
        elif key not in TEXTS and not key.startswith("x-"):
            result["anyOf" if key == "oneOf" else key] = simplified(value, names=key == "properties")
    if result.pop("nullable", False):
        return {"anyOf": [result, {"type": "null"}]}
    return result


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].rpartition("/")[2]
        schema = list(schema.values())
    if isinstance(schema, list):
        for each in schema:
            yield from references(each)


def parts_of(schema: Any) -> Iterator[str]:
    """Schemas that another one is put together from: only the whole can be closed."""
    if isinstance(schema, dict):
        for part in schema.get("allOf", ()):
            yield from references({"$ref": part["$ref"]} if "$ref" in part else {})
        schema = list(schema.values())
    if isinstance(schema, list):
        for each in schema:
            yield from parts_of(each)


def close(schema: Any, *, is_part: bool) -> None:
    """Refuse fields that are not listed."""
    if isinstance(schema, list):
        for each in schema:
            close(each, is_part=is_part)
        return
    if not isinstance(schema, dict):
        return
    whole = "allOf" in schema
    if (whole or "properties" in schema) and not is_part and "additionalProperties" not in schema:
        schema["unevaluatedProperties"] = False
    for key, value in schema.items():
        if key == "properties":
            for each in value.values():
                close(each, is_part=False)
        elif key == "allOf":
            close(value, is_part=True)
        elif key in ("anyOf", "items", "additionalProperties"):
            close(value, is_part=is_part and key == "anyOf")


if __name__ == "__main__":
    import yaml

    json.dump(reduced(yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))), sys.stdout, indent=1)
    sys.stdout.write("\n")
