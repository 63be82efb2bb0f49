"""Mistakes in a command's arguments, as a sentence that names what was given and what is needed."""

import re
from typing import Any

import typer

__all__ = ["UsageError", "told"]

UsageError: type[Exception] = typer.BadParameter.__base__  # type: ignore[assignment]
"""What is raised for them: click's class, or typer's copy of it."""

_CHOICES = re.compile(r"(?:Value error, )?('.*') is not one of (.*?)\.?$", re.DOTALL)
_BOUND = re.compile(r"Input should be (greater|less) than( or equal to)? (\S+)")
_WORDS = {
    "should be a valid integer": "a whole number",
    "is not a valid integer": "a whole number",
    "should be a valid number": "a number",
    "is not a valid float": "a number",
}
_BOUNDS = {
    ("greater", True): "{} or more",
    ("greater", False): "more than {}",
    ("less", True): "{} or less",
    ("less", False): "less than {}",
}


def told(error: Any) -> str:
    """A sentence or two; empty where the command's help has been printed instead."""
    where = "" if error.ctx is None else f" See `{error.ctx.command_path} --help`."
    parameter = getattr(error, "param", None)
    if parameter is None:
        message = str(error.format_message())
        return message and f"{message}{'' if message.endswith(('.', '?')) else '.'}{where}"
    name = next((each for each in parameter.opts if each.startswith("--")), parameter.metavar or parameter.name)
    if not error.message:
        return f"{name} is missing.{where}"
    return _mistaken(name, str(error.message), error.__cause__)


def _mistaken(name: str, message: str, cause: Any) -> str:
    choices = _CHOICES.match(message)
    if choices:
        *most, last = choices[2].replace("'", "").split(", ")
        return f"{name} is {choices[1]}; {', '.join(most)}{' or ' if most else ''}{last} is needed."
    bound = _BOUND.match(message)
    needed = next((words for part, words in _WORDS.items() if part in message), None)
    if bound:
        needed = _BOUNDS[bound[1], bool(bound[2])].format(bound[3])
    if needed is None:
        return f"{name}: {message}"
    given = _given(cause)
    return f"{name} is {given!r}; {needed} is needed." if given is not None else f"{name} has to be {needed}."


def _given(cause: Any) -> Any:
    """What the user typed, where the validation that failed says so."""
    errors = getattr(cause, "errors", None)
    return errors()[0].get("input") if callable(errors) else None
