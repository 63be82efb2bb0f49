"""Anthropic's Messages API as a wire format."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from lm_deluge._json import JsonReader
from lm_deluge.models import Model
from lm_deluge.providers._format import ErrorWords, WireFormat
from lm_deluge.providers._json import ABSENT
from lm_deluge.providers.anthropic import build, layout, parse
from lm_deluge.providers.anthropic.stream import MessageFold
from lm_deluge.providers.rate_limits import pause, until_rfc_3339

__all__ = ["AnthropicMessages"]

# Anthropic, rate limits page. Resets are RFC 3339 times.
_LIMITS = tuple(
    (f"anthropic-ratelimit-{kind}-remaining", f"anthropic-ratelimit-{kind}-reset")
    for kind in ("requests", "tokens", "input-tokens", "output-tokens")
)


class _Answer(msgspec.Struct):
    id: msgspec.Raw = ABSENT
    type: msgspec.Raw = ABSENT
    role: msgspec.Raw = ABSENT
    model: msgspec.Raw = ABSENT
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    content: msgspec.Raw = ABSENT
    stop_reason: msgspec.Raw = ABSENT
    diagnostics: msgspec.Raw = ABSENT


class AnthropicMessages(WireFormat):
    """``POST /v1/messages``."""

    name: ClassVar[str] = layout.NAME
    answer_fields: ClassVar[JsonReader[Any]] = JsonReader(_Answer)
    # Anthropic, errors page and rate limits page.
    errors: ClassVar[ErrorWords] = ErrorWords(
        statuses={
            "invalid_request_error": 400,
            "authentication_error": 401,
            "billing_error": 402,
            "permission_error": 403,
            "not_found_error": 404,
            "conflict_error": 409,
            "request_too_large": 413,
            "rate_limit_error": 429,
            "api_error": 500,
            "timeout_error": 504,
            "overloaded_error": 529,
        },
        spent=frozenset({"enforced_spend_limit_reached"}),  # a 429 that waiting does not cure
    )
    joins_turns: ClassVar[bool] = True
    reads_system_first: ClassVar[bool] = True
    images_change_cache: ClassVar[bool] = True  # Anthropic, prompt caching guide

    body = staticmethod(build.build_body)
    dropped_parameters = staticmethod(build.dropped_parameters)
    can_prefill = staticmethod(build.can_prefill)
    reply = staticmethod(parse.read_reply)
    fold = MessageFold
    is_sent = staticmethod(layout.is_sent)
    opens_turn = staticmethod(layout.is_result)
    tool_outline = staticmethod(layout.tool_outline)

    def url(self, model: Model) -> str:
        return model.base_url.removesuffix("/v1") + "/v1/messages"

    def headers(self, credential: str | None, extra: Mapping[str, str]) -> dict[str, str]:
        """Version and credential.

        ``2023-06-01`` knows the key as ``x-api-key``. From the next version on the official SDK sends it as a bearer
        token, so a user who asks for that version gets that.
        """
        version = extra.get("anthropic-version", build.VERSION)
        headers = {"anthropic-version": version}
        if credential is not None:
            if version == build.VERSION:
                headers["x-api-key"] = credential
            else:
                headers["authorization"] = f"Bearer {credential}"
        return headers

    def pause(self, headers: Mapping[str, str], *, now: float) -> float | None:
        return pause(headers, _LIMITS, lambda reset: until_rfc_3339(reset, now))
