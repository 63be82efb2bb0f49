"""What a client was told once, and what each run is told anew."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from lm_deluge.config import SamplingParams
from lm_deluge.models import Model
from lm_deluge.prompt_cache import PromptCache
from lm_deluge.request import Parameters
from lm_deluge.schedule import RetryPolicy
from lm_deluge.tool import Tool

__all__ = ["CacheMode", "OnMiss", "RunOptions", "Settings", "parameters_of"]

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
    extra_body: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        return f"Settings(models={[model.name for model in self.models]})"


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one run.

    Attributes:
        tools: tools that the model may call.
        tool_choice: ``"auto"``, ``"none"``, ``"required"`` or a tool's name.
        output_schema: a JSON schema that answers have to follow.
        prompt_cache: how the provider should cache.
        cache_mode: how the local cache is used.
        max_age: seconds; older entries of the local cache are misses.
        on_miss: what a miss is when ``cache_mode`` is ``"offline"``.
        samples: independent answers for each prompt.
        run_name: what the run is called in the cache's accounts.
        tags: for finding the run and its entries again.
    """

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
