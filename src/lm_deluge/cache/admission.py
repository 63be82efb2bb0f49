"""Which answers are worth keeping. A stored answer is served again and again, so a bad one must not get in."""

import inspect
from collections.abc import Callable
from typing import Literal, get_args

from lm_deluge.errors import CacheError, ConfigError
from lm_deluge.prompt import Text, Thinking
from lm_deluge.response import APIResponse

__all__ = ["Admit", "Policy", "policy"]

Admit = Literal["answers", "complete"] | Callable[[APIResponse], bool]
"""``"answers"``, ``"complete"``, or a function that says whether to store a response."""

Policy = Callable[[APIResponse], bool]

_NOT_KEPT = frozenset({"refusal", "content_filter"})


def policy(admit: Admit) -> Policy:
    """The decision whether to store a response.

    Errors, refusals, filtered answers and answers with nothing in them are never stored. ``"answers"`` stores all
    others; ``"complete"`` leaves out those that the token limit cut short; a function decides about those others.

    Raises:
        ConfigError: something else.
    """
    if admit == "answers":
        return _is_answer
    if admit == "complete":
        return lambda response: _is_answer(response) and response.finish_reason != "length"
    if callable(admit):
        if inspect.iscoroutinefunction(admit):
            raise ConfigError("admit= is a coroutine function; it has to decide at once. Use a plain function.")
        return lambda response: _is_answer(response) and _decision(admit, response)
    known = " or ".join(map(repr, get_args(get_args(Admit)[0])))
    raise ConfigError(f"admit={admit!r} is not known; use {known}, or a function of the response.")


def _decision(admit: Policy, response: APIResponse) -> bool:
    try:
        decision: object = admit(response)
    except Exception as error:
        raise CacheError(f"the function given as admit= raised {type(error).__name__}: {error}") from error
    if not isinstance(decision, bool):
        raise CacheError(f"the function given as admit= returned {decision!r}; True or False is needed")
    return decision


def _is_answer(response: APIResponse) -> bool:
    if response.is_error or response.content is None or response.finish_reason in _NOT_KEPT:
        return False
    return any(
        part.text.strip() if isinstance(part, Text) else not isinstance(part, Thinking)
        for part in response.content.parts
    )
