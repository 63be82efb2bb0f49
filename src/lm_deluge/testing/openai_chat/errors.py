"""OpenAI's error bodies, and its words for a body of the wrong shape."""

import msgspec

from lm_deluge.testing.decoding import Path, Rejection, ShapeProblem

__all__ = ["error_body", "rejection"]

_TYPES = {
    401: "invalid_request_error",
    403: "permission_error",
    404: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    429: "requests",
}
_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}
_NOUNS = {
    "str": "a string",
    "int": "an integer",
    "float": "a decimal",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}


def error_body(rejection: Rejection) -> bytes:
    """The JSON body of an error answer, and the data of an error event."""
    default = "server_error" if rejection.status >= 500 else "invalid_request_error"
    error = {
        "message": rejection.message,
        "type": rejection.type or _TYPES.get(rejection.status, default),
        "param": rejection.param,
        "code": rejection.code or _CODES.get(rejection.status),
    }
    return msgspec.json.encode({"error": error})


def _bracketed(path: Path) -> str:
    """A place in a body as OpenAI writes it: ``messages[0].content[1].text``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def rejection(problem: ShapeProblem) -> Rejection:
    """OpenAI's 400 for a body of the wrong shape."""
    place = _bracketed(problem.path)
    match problem.kind:
        case "syntax":
            return Rejection(f"We could not parse the JSON body of your request: {problem.got}")
        case "missing":
            message = f"Missing required parameter: '{place}'."
            return Rejection(message, param=place, code="missing_required_parameter")
        case "unknown" if len(problem.path) == 1:
            return Rejection(f"Unrecognized request argument supplied: {place}")
        case "unknown":
            return Rejection(f"Unknown parameter: '{place}'.", param=place, code="unknown_parameter")
        case "type":
            expected = " or ".join(_NOUNS.get(each.strip(), each.strip()) for each in problem.expected.split("|"))
            got = _NOUNS.get(problem.got, problem.got)
            message = f"Invalid type for '{place}': expected {expected}, but got {got} instead."
            return Rejection(message, param=place or None, code="invalid_type")
        case "range":
            kind, _, bound = problem.expected.partition(" ")
            message = f"Invalid '{place}': expected {_NOUNS.get(kind, kind)} {bound}."
            return Rejection(message, param=place, code=_range_code(kind, bound))
        case _:
            return Rejection(f"Invalid value: '{problem.got}'.", param=place or None, code="invalid_value")


def _range_code(kind: str, bound: str) -> str:
    if "matching regex" in bound:
        return "invalid_value"
    if "length" in bound:
        noun = {"str": "string", "array": "array"}.get(kind, "object")
        if ">= 1" in bound:
            return f"empty_{noun}"
        return f"{noun}_above_max_length" if "<=" in bound else f"{noun}_below_min_length"
    number = "integer" if kind == "int" else "decimal"
    return f"{number}_above_max_value" if "<" in bound else f"{number}_below_min_value"
