"""Anthropic's error bodies, and its words for a body of the wrong shape."""

from typing import Any

import msgspec

from lm_deluge.testing.decoding import Path, Rejection, ShapeProblem

__all__ = ["dotted", "error_body", "rejection"]

_TYPES = {  # by Anthropic's errors page
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_NOUNS = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "array": "list",
    "object": "dictionary",
    "null": "null",
}


def error_body(rejection: Rejection, request_id: str) -> bytes:
    """The JSON body of an error answer, and the data of an ``error`` event."""
    kind = _TYPES.get(rejection.status, "api_error" if rejection.status >= 500 else "invalid_request_error")
    error: dict[str, Any] = {"type": rejection.type or kind, "message": rejection.message}
    if rejection.code is not None:
        error["details"] = {"error_code": rejection.code}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def dotted(path: Path) -> str:
    """A place in a body as Anthropic writes it: ``messages.0.content.1.text``."""
    return ".".join(str(step) for step in path)


def rejection(problem: ShapeProblem) -> Rejection:
    """Anthropic's 400 for a body of the wrong shape."""
    place = dotted(problem.path)
    match problem.kind:
        case "syntax":
            return Rejection(f"The request body is not valid JSON: {problem.got}")
        case "missing":
            return Rejection(f"{place}: Field required")
        case "unknown":
            return Rejection(f"{place}: Extra inputs are not permitted")
        case "type":
            expected = " or ".join(_NOUNS.get(each.strip(), each.strip()) for each in problem.expected.split("|"))
            return Rejection(f"{place or 'body'}: Input should be a valid {expected}")
        case "range":
            return Rejection(f"{place}: Input should be {_bound(problem.expected)}")
        case _:
            return Rejection(f"{place}: Input {problem.got!r} does not match any of the expected values")


def _bound(expected: str) -> str:
    kind, _, bound = expected.partition(" ")
    words = bound.replace(">=", "greater than or equal to").replace("<=", "less than or equal to")
    return f"a {_NOUNS.get(kind, kind)} {words}".replace("a integer", "an integer")
