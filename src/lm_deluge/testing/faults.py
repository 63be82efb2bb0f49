"""What may go wrong, as values: a queue of these makes the emulator fail in the order a test asks for."""

from typing import Literal, TypeAlias

import msgspec

from lm_deluge.testing.decoding import Rejection

__all__ = ["Fault", "as_rejection"]

_Kind: TypeAlias = Literal[
    "error", "raw", "hang", "drop", "invalid_json", "truncated_stream", "error_mid_stream", "cut_body"
]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One failure, applied to one valid request. Make one with the class methods."""

    kind: _Kind
    status: int = 200
    message: str | None = None
    error_type: str | None = None
    code: str | None = None
    retry_after: float | None = None
    after_bytes: int | None = None
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def error(
        cls,
        status: int,
        *,
        message: str | None = None,
        type: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> "Fault":
        """The provider's error body for a status (400, 401, 402, 403, 404, 408, 409, 413, 429, 500, 503, 504, 529...).

        Args:
            status: the HTTP status.
            message: the message; None for a usual one.
            type: the provider's error type; None for the one that belongs to the status.
            code: OpenAI's ``code``, Anthropic's ``details.error_code``.
            retry_after: seconds for a ``retry-after`` header; None sends none.
        """
        return cls(kind="error", status=status, message=message, error_type=type, code=code, retry_after=retry_after)

    @classmethod
    def rate_limit(cls, *, retry_after: float | None = 1.0) -> "Fault":
        """A 429 that is worth repeating, with ``retry-after`` (seconds) and rate-limit headers at zero."""
        return cls(kind="error", status=429, retry_after=retry_after)

    @classmethod
    def spend_limit(cls) -> "Fault":
        """A 429 that is *not* worth repeating: the account's spend limit. It has no ``retry-after``.

        Anthropic: ``details.error_code`` is ``enforced_spend_limit_reached``; OpenAI: ``insufficient_quota``.
        """
        return cls(kind="error", status=429, code="spend_limit")

    @classmethod
    def overloaded(cls) -> "Fault":
        """The provider has no capacity: 529 ``overloaded_error``; OpenAI clients see the same status."""
        return cls(kind="error", status=529)

    @classmethod
    def hang(cls) -> "Fault":
        """Accept the request and never answer; it ends when the client leaves or the emulator stops."""
        return cls(kind="hang", status=0)

    @classmethod
    def drop(cls, *, after_bytes: int | None = None) -> "Fault":
        """Close the connection: before any byte of the answer, or after ``after_bytes`` bytes of its body."""
        return cls(kind="drop", status=0, after_bytes=after_bytes)

    @classmethod
    def invalid_json(cls) -> "Fault":
        """A 200 whose body (or whose stream's events) is not JSON."""
        return cls(kind="invalid_json")

    @classmethod
    def cut_body(cls) -> "Fault":
        """A 200 whose body is the first half of a good one, with a content length to match."""
        return cls(kind="cut_body")

    @classmethod
    def truncated_stream(cls) -> "Fault":
        """A stream that ends cleanly but without its final events. For a plain request: ``cut_body``."""
        return cls(kind="truncated_stream")

    @classmethod
    def error_mid_stream(cls, *, message: str = "Overloaded") -> "Fault":
        """A stream that starts well and then carries an error event. For a plain request: a 529."""
        return cls(kind="error_mid_stream", status=529, message=message)

    @classmethod
    def raw(cls, status: int, body: bytes, *, headers: tuple[tuple[str, str], ...] = ()) -> "Fault":
        """Any answer at all, such as a gateway's HTML page."""
        return cls(kind="raw", status=status, body=body, headers=headers)


_MESSAGES = {
    400: "The request was refused.",
    401: "invalid x-api-key",
    402: "Your credit balance is too low to access the API.",
    403: "Your credential does not have permission to use this resource.",
    404: "The requested resource could not be found.",
    408: "The request timed out.",
    409: "The request conflicts with the current state of the resource.",
    413: "Request exceeds the maximum size",
    429: "This request would exceed your account's rate limit. Please try again later.",
    500: "Internal server error",
    502: "Bad gateway",
    503: "The service is temporarily unavailable.",
    504: "The request timed out.",
    529: "Overloaded",
}
_SPEND_LIMIT = {
    "anthropic": (None, "enforced_spend_limit_reached", "You have reached your specified API usage limits."),
    "openai": (
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
}


def as_rejection(fault: Fault, provider: Literal["anthropic", "openai"]) -> Rejection:
    """A fault that is an error answer, in the terms of a provider."""
    kind, code, message = fault.error_type, fault.code, fault.message
    if code == "spend_limit":
        kind, code, message = _SPEND_LIMIT[provider]
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if fault.retry_after is not None:
        headers = ((b"retry-after", f"{fault.retry_after:g}".encode()),)
    text = message if message is not None else _MESSAGES.get(fault.status, "The request failed.")
    return Rejection(text, status=fault.status, type=kind, code=code, headers=headers)
