"""OpenAI's OpenAPI document as a judge of request bodies. See ``openapi/README.md``."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema_rs

NEWER = frozenset({"prompt_cache_options", "prompt_cache_breakpoint"})
"""Fields that the document does not know yet, wherever they stand."""

NEWER_VALUES = frozenset({("reasoning_effort", "max")})
"""The same, values."""


def judge_by_document(body: dict[str, Any]) -> None:
    """Fail if the document does not allow a body."""
    problems = [
        f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in validator().iter_errors(older(body))
    ]
    assert not problems, "\n".join(problems)


@lru_cache
def validator() -> Any:
    document = json.loads((Path(__file__).parent / "openapi" / "chat_request.json").read_text(encoding="utf-8"))
    return jsonschema_rs.Draft202012Validator(document)


def is_newer(name: str, value: Any) -> bool:
    return isinstance(value, str) and (name, value) in NEWER_VALUES


def older(value: Any) -> Any:
    """Without what is newer than the document."""
    if isinstance(value, list):
        return [older(item) for item in value]
    if isinstance(value, dict):
        known = {name: item for name, item in value.items() if name not in NEWER}
        return {name: older(each) for name, each in known.items() if not is_newer(name, each)}
    return value
