"""What an answer means, whichever wire format it came in."""

from typing import Any, Literal

import msgspec

from lm_deluge.prompt import Message
from lm_deluge.usage import Usage

__all__ = ["Delta", "Failure", "Reply"]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A model's answer.

    Attributes:
        content: the model's message.
        usage: tokens by kind; None when the server did not say.
        finish_reason: ``"stop"``, ``"length"``, ``"tool_calls"``, ``"content_filter"`` or ``"refusal"``; anything else
            is the provider's own word. None when the server gave none.
        model: the model that answered, as the provider names it.
        response_id: the provider's id of the answer.
        logprobs: one object for each token, in OpenAI's shape; None where there are none.
        service_tier: the processing tier that the answer is charged at, as ``rates_for`` takes it; None for standard
            processing, and where the server did not say.
        cache_miss_reason: why the prompt was not read from the provider's cache, in the provider's word, such as
            ``"tools_changed"``. None if that was not asked, if nothing differed, or if the provider had not found out
            when it answered.
    """

    content: Message
    usage: Usage | None = None
    finish_reason: str | None = None
    model: str | None = None
    response_id: str | None = None
    logprobs: list[dict[str, Any]] | None = None
    service_tier: str | None = None
    cache_miss_reason: str | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer that holds no model's answer.

    Attributes:
        status: the HTTP status. An error inside a 200, or in the middle of a stream, has the status it stands for
            where its type tells, and 200 where it does not.
        message: what happened, at which host, and the provider's words. It holds no credential.
        kind: the provider's error type, such as ``"rate_limit_error"``; ``"invalid_response"`` for an answer that does
            not have the documented shape, and ``"truncated_stream"`` for a stream without its end.
        code: the provider's finer error code, if any.
        retryable: whether the same request may succeed later.
        retry_after: seconds to wait before that, if the server said, from 0 to ``MAX_WAIT``.
        usage: what was charged by then, where a stream that broke has said so.
    """

    status: int
    message: str
    kind: str | None = None
    code: str | None = None
    retryable: bool = False
    retry_after: float | None = None
    usage: Usage | None = None


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of an answer that is still arriving.

    Attributes:
        kind: ``"text"``, ``"thinking"``, or ``"tool_call"`` for a piece of a call's arguments.
        text: the piece; never empty.
    """

    kind: Literal["text", "thinking", "tool_call"]
    text: str
