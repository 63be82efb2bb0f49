"""What went wrong at the provider, in words for the user, and whether asking again can help."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from lm_deluge._json import LARGE
from lm_deluge._secrets import NO_SECRETS, Secrets
from lm_deluge.models import Model
from lm_deluge.providers._json import decode_object, fields_of, nonempty
from lm_deluge.providers._registry import FORMATS
from lm_deluge.providers._values import Failure
from lm_deluge.providers.rate_limits import retry_after
from lm_deluge.wire import HttpResponse

__all__ = ["failure_from_error", "failure_from_response", "invalid_response"]

_RETRYABLE = frozenset({408, 409, 429})  # and from 500 on, as in the official SDKs
# A gateway passes on the words of the server behind it, so those of every format count in each.
_SPENT = frozenset(word for form in FORMATS.values() for word in form.errors.spent)
_STATUS_OF_TYPE = {word: status for form in FORMATS.values() for word, status in form.errors.statuses.items()}

_REMEDIES: Mapping[int, str] = {
    401: "Check the API key.",
    402: "Check the account's billing.",
    403: "Check what the API key may do.",
    404: "Check the model's name and base_url.",
    405: "Check base_url.",
    413: "Send a shorter prompt or smaller files.",
}

_MAX_MESSAGE = 500
_MAX_READ = 8 * _MAX_MESSAGE
_MAX_WORD = 64
_TAG = re.compile(r"<[^<>]*>")


def failure_from_response(model: Model, response: HttpResponse, *, now: float, secrets: Secrets) -> Failure:
    """From an answer with an error status and any body."""
    # Of an error of megabytes the beginning says enough.
    error: object = decode_object(response.body) if len(response.body) <= LARGE else None
    if error is None:  # the page of a proxy, most of the time
        error = _TAG.sub(" ", response.body[:_MAX_READ].decode("utf-8", "replace"))
    return failure_from_error(model, error, status=response.status, secrets=secrets, headers=response.headers, now=now)


def failure_from_error(
    model: Model,
    error: object,
    *,
    status: int,
    secrets: Secrets,
    headers: Mapping[str, str] | None = None,
    now: float = 0.0,
) -> Failure:
    """From an error as the provider words it: a decoded body, its ``error`` object, or text.

    Headers have names in lower case, and ``now`` is in seconds since the Unix epoch. An error in the middle of a stream
    has neither.
    """
    headers = headers or {}
    text, kind, code = _read(error)
    if 200 <= status < 300:
        status = _status_of(kind, code)
    return Failure(
        status=status,
        message=_message(model, status, kind, text, secrets),
        kind=_told(kind, secrets, _MAX_WORD),
        code=_told(code, secrets, _MAX_WORD),
        retryable=_is_retryable(status, {kind, code}, headers.get("x-should-retry")),
        retry_after=retry_after(headers, now=now),
    )


def invalid_response(
    model: Model, reason: str, *, status: int = 200, kind: str = "invalid_response", again: bool = True
) -> Failure:
    """An answer that does not have the documented shape. The next one may, so it can be asked for again."""
    return Failure(status=status, message=_message(model, status, kind, reason), kind=kind, retryable=again)


def _read(error: object) -> tuple[str, str | None, str | None]:
    """Text, type and code of an error. Beside the documented shape there are ``{"error": "text"}``, ``{"message"}``,
    and FastAPI's ``{"detail"}``."""
    inner = error.get("error") if isinstance(error, dict) else None
    body = inner if isinstance(inner, dict) else error
    if not isinstance(body, dict):
        return str(body), None, None
    finer = fields_of(body.get("details")).get("error_code")
    text = nonempty(body.get("message")) or nonempty(inner) or _as_text(body.get("detail")) or "no message"
    kind = nonempty(body.get("type")) or nonempty(body.get("status"))
    return text, kind, _code(finer) or _code(body.get("code"))


def _code(value: object) -> str | None:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else nonempty(value)


def _as_text(value: object) -> str | None:
    try:
        return None if value in (None, "", [], {}) else str(value)
    except RecursionError:
        return None


def _status_of(kind: str | None, code: str | None) -> int:
    """The status that an error inside a 200 stands for. OpenRouter and vLLM put the number in ``code``."""
    if code is not None and re.fullmatch("[45][0-9][0-9]", code):
        return int(code)
    return _STATUS_OF_TYPE.get(kind or "", 200)


def _is_retryable(status: int, words: set[str | None], should_retry: str | None) -> bool:
    if should_retry in ("true", "false"):
        return should_retry == "true"
    if words & _SPENT:
        return False
    # An error inside a 200 whose type says nothing: the server failed after it had accepted the request.
    return status in _RETRYABLE or status >= 500 or status == 200


def _message(model: Model, status: int, kind: str | None, text: str, secrets: Secrets = NO_SECRETS) -> str:
    host = urlsplit(model.base_url).netloc
    word = _told(kind, secrets, _MAX_WORD)
    what = f"{status} {word}" if word else str(status)
    remedy = "Redirects are not followed; check base_url." if 300 <= status < 400 else _REMEDIES.get(status, "")
    said = _told(text, secrets, _MAX_MESSAGE) or "no message"
    if not remedy:
        return f"{what} from {host}: {said}"
    return f"{what} from {host}: {said}{'' if said.endswith(('.', '!', '?')) else '.'} {remedy}"


def _told(text: str | None, secrets: Secrets, most: int) -> str | None:
    """A server's words as they are told: one printable line without credentials, of bounded length. None for none."""
    if not text:
        return None
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:_MAX_READ]).split())
    shown = secrets.hide(line)  # before it is cut, for half a key is one still
    return (shown if len(shown) <= most else shown[: most - 1] + "…") or None
