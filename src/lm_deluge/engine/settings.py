"""What a client was told once, and what each run is told anew."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lm_deluge.config import SamplingParams
from lm_deluge.models import Model
from lm_deluge.prompt_cache import Pattern
from lm_deluge.schedule import RetryPolicy
from lm_deluge.tool import Tool

__all__ = ["RunOptions", "Settings"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a client sends. ``LLMClient`` documents each value.

    ``api_key`` never appears in a ``repr``.
    """

    models: tuple[Model, ...]
    params: SamplingParams
    retry: RetryPolicy
    max_concurrent: int
    request_timeout: float
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
        pattern: where the provider should cache.
    """

    tools: Sequence[Tool] = ()
    tool_choice: str | None = None
    output_schema: Mapping[str, Any] | None = None
    pattern: Pattern | None = None
