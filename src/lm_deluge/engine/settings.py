"""The settings of a client, and the options of each run."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from lm_deluge.config import SamplingParams
from lm_deluge.models import Model
from lm_deluge.prompt_cache import PromptCache
from lm_deluge.request import Parameters
from lm_deluge.schedule import Limits, RetryPolicy
from lm_deluge.tool import Tool

__all__ = [
    "REQUESTS_PER_MINUTE",
    "TOKENS_PER_MINUTE",
    "CacheMode",
    "OnMiss",
    "RunOptions",
    "Settings",
    "held_back_by",
    "parameters_of",
    "share_of",
    "too_large",
]

REQUESTS_PER_MINUTE = 1_000
TOKENS_PER_MINUTE = 100_000
"""The limits of a client that was told none: what a new account may do."""

CacheMode = Literal["use", "refresh", "bypass", "offline"]
OnMiss = Literal["error", "raise"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a client sends. ``LLMClient`` documents each value.

    ``api_key`` never appears in a ``repr``.
    """

    models: tuple[Model, ...]
    params: SamplingParams
    retry: RetryPolicy
    max_concurrent: int
    request_timeout: float
    single_flight: bool = False
    api_key: str | None = None
    extra_headers: Mapping[str, str] = {}
    public_headers: frozenset[str] = frozenset()
    address_from: str | None = None  # the file that names base_url, and no key for it
    extra_body: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        return f"Settings(models={[model.name for model in self.models]})"


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one run. The client's ``RunArguments`` has each value; ``prompt_cache`` is ``cache`` there."""

    tools: Sequence[Tool] = ()
    tool_choice: str | None = None
    output_schema: Mapping[str, Any] | None = None
    prompt_cache: PromptCache | None = None
    cache_mode: CacheMode = "use"
    max_age: float | None = None
    on_miss: OnMiss = "error"
    samples: int = 1
    run_name: str | None = None
    tags: tuple[str, ...] = ()


def parameters_of(settings: Settings, options: RunOptions) -> dict[str, Parameters]:
    """What is asked beside the prompts, by the name of each model.

    Raises:
        ConfigError: something has no JSON form.
    """
    return {
        model.name: Parameters.of(
            model,
            settings.params,
            tools=options.tools,
            tool_choice=options.tool_choice,
            output_schema=options.output_schema,
            extra_body=settings.extra_body,
            extra_headers=settings.extra_headers,
        )
        for model in settings.models
    }


def too_large(tokens: int, tokens_per_minute: float) -> str | None:
    """Why a prompt of so many tokens can never be sent under a limit; None if it can."""
    if tokens <= tokens_per_minute:
        return None
    return (
        f"The prompt has about {tokens:,} tokens, and max_tokens_per_minute is {tokens_per_minute:,.0f}, so it can "
        "never be sent. Raise the limit or shorten the prompt."
    )


def share_of(tokens: int, params: SamplingParams, tokens_per_minute: float) -> int:
    """About how many tokens a call takes from the limit until its answer says how many it was.

    Args:
        tokens: of the prompt.
        params: how many the answer may have.
        tokens_per_minute: the limit.
    """
    return min(tokens + (params.max_new_tokens or 0), int(tokens_per_minute))


def held_back_by(limits: Limits, tokens: int, *, now: float) -> str | None:
    """What to say if calls wait for a default limit; a run at such limits may take hours.

    Args:
        limits: the client's.
        tokens: of a call that has waited.
        now: on the monotonic clock.
    """
    if not limits.delay(tokens, now):
        return None  # what it waited for was a slot, or the end of a pause
    by_tokens = limits.tokens_per_minute / max(1, tokens)
    if by_tokens < limits.requests_per_minute and limits.tokens_per_minute == TOKENS_PER_MINUTE:
        setting, default = "max_tokens_per_minute", TOKENS_PER_MINUTE
    elif by_tokens >= limits.requests_per_minute == REQUESTS_PER_MINUTE:
        setting, default = "max_requests_per_minute", REQUESTS_PER_MINUTE
    else:
        return None
    rate = limits.calls_per_minute(tokens)
    return (
        f"Prompts wait for {setting}. Its default, {default:,}, lets about {rate:,.0f} such prompts a minute through. "
        "Set it to what your account allows."
    )
