"""Sampling parameters. What the user did not set is not sent."""

from typing import Any, Literal, get_args

import msgspec

from lm_deluge.errors import ConfigError

__all__ = ["Effort", "SamplingParams"]

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_EFFORTS = get_args(Effort)


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an answer is sampled. ``None`` and ``False`` mean that the provider's own default holds.

    Attributes:
        temperature: 0 to 2. Left out, with one warning, for models that reject it.
        top_p: 0 to 1.
        max_new_tokens: most tokens to generate. Anthropic requires one; 4,096 is sent when it is not set.
        json_mode: ask for a JSON object.
        reasoning_effort: ``"none"``, ``"minimal"``, ``"low"``, ``"medium"``, ``"high"``, ``"xhigh"`` or ``"max"``.
        thinking_budget: tokens for thinking, on Anthropic models that take a budget.
        logprobs: ask for the log probability of each token.
        top_logprobs: 0 to 20 alternatives for each token; needs ``logprobs``.
        seed: for reproducible sampling, where the provider offers it.
        stop: strings that end the answer.

    Raises:
        ConfigError: a value outside its range.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_new_tokens: int | None = None
    json_mode: bool = False
    reasoning_effort: Effort | None = None
    thinking_budget: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _number("temperature", self.temperature, 0, 2)
        _number("top_p", self.top_p, 0, 1)
        _integer("max_new_tokens", self.max_new_tokens, 1)
        _integer("thinking_budget", self.thinking_budget, 1)
        _integer("top_logprobs", self.top_logprobs, 0, 20)
        _integer("seed", self.seed, None)
        if self.reasoning_effort is not None and self.reasoning_effort not in _EFFORTS:
            raise ConfigError(f"reasoning_effort is {self.reasoning_effort!r}; one of {', '.join(_EFFORTS)} is needed.")
        if self.top_logprobs is not None and not self.logprobs:
            raise ConfigError("top_logprobs needs logprobs=True.")
        msgspec.structs.force_setattr(self, "stop", _strings("stop", self.stop))

    def is_set(self, name: str) -> bool:
        """Whether a parameter says something. 0 does: it is a temperature and a seed."""
        value = getattr(self, name)
        return value is not None and value is not False and value != ()

    def with_changes(self, **changes: Any) -> "SamplingParams":
        """These parameters with some replaced.

        Raises:
            ConfigError: an unknown name or a value outside its range.
        """
        unknown = set(changes) - set(self.__struct_fields__)
        if unknown:
            raise ConfigError(
                f"{sorted(unknown)[0]!r} is not a sampling parameter; known are {', '.join(self.__struct_fields__)}. "
                "Send anything else with extra_body=."
            )
        return msgspec.structs.replace(self, **changes)


def _number(name: str, value: object, low: float, high: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{name} is {value!r}; a number is needed.")
    if not low <= value <= high:  # NaN is not
        raise ConfigError(f"{name} is {value!r}; a number from {low} to {high} is needed.")


def _integer(name: str, value: object, low: int | None, high: int | None = None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name} is {value!r}; a whole number is needed.")
    if high is not None and value > high:
        raise ConfigError(f"{name} is {value!r}; at most {high} is allowed.")
    if low is not None and value < low:
        raise ConfigError(f"{name} is {value!r}; at least {low} is needed.")


def _strings(name: str, value: object) -> tuple[str, ...]:
    given = () if value is None else (value,) if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)) or not all(isinstance(item, str) and item for item in given):
        raise ConfigError(f"{name}={value!r} is not a list of strings that are not empty.")
    return tuple(given)
