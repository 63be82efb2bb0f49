"""Chat Completions as a wire format, as OpenAI and many others serve it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from lm_deluge._json import JsonReader
from lm_deluge.config import SamplingParams
from lm_deluge.models import Model
from lm_deluge.providers._format import ErrorWords, WireFormat
from lm_deluge.providers._json import ABSENT, FirstOf
from lm_deluge.providers.openai_chat import build, layout, parse
from lm_deluge.providers.openai_chat.stream import CompletionFold
from lm_deluge.providers.rate_limits import duration, pause

__all__ = ["ChatCompletions"]

# OpenAI, rate limits guide. Resets are durations.
_LIMITS = tuple((f"x-ratelimit-remaining-{kind}", f"x-ratelimit-reset-{kind}") for kind in ("requests", "tokens"))


class _Choice(msgspec.Struct):
    index: msgspec.Raw = ABSENT
    message: msgspec.Raw = ABSENT
    finish_reason: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


class _Answer(msgspec.Struct):
    id: msgspec.Raw = ABSENT
    model: msgspec.Raw = ABSENT
    usage: msgspec.Raw = ABSENT
    service_tier: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    choices: FirstOf[_Choice] | None = None


class ChatCompletions(WireFormat):
    """``POST /chat/completions``."""

    name: ClassVar[str] = layout.NAME
    answer_fields: ClassVar[JsonReader[Any]] = JsonReader(_Answer)
    # OpenAI, error codes guide. Its types name few statuses.
    errors: ClassVar[ErrorWords] = ErrorWords(
        statuses={"invalid_request_error": 400, "server_error": 500},
        spent=frozenset({"insufficient_quota", "billing_hard_limit_reached"}),
    )
    tokens_per_message: ClassVar[int] = 1

    body = staticmethod(build.build_body)
    reply = staticmethod(parse.read_reply)
    fold = CompletionFold
    is_sent = staticmethod(layout.is_sent)
    tool_outline = staticmethod(layout.tool_outline)

    def url(self, model: Model) -> str:
        return model.base_url + "/chat/completions"

    def headers(self, credential: str | None, extra: Mapping[str, str]) -> dict[str, str]:
        return {} if credential is None else {"authorization": f"Bearer {credential}"}

    def dropped_parameters(self, model: Model, params: SamplingParams, *, has_schema: bool) -> tuple[str, ...]:
        return build.dropped_parameters(model, params)

    def pause(self, headers: Mapping[str, str], *, now: float) -> float | None:
        return pause(headers, _LIMITS, duration)
