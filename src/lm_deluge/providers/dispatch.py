"""The table of wire formats, and the functions that look a model's format up in it.

A format is a handful of pure functions; one more is one row here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from lm_deluge._json import LARGE
from lm_deluge._secrets import NO_SECRETS, Secrets
from lm_deluge._version import __version__
from lm_deluge.config import SamplingParams
from lm_deluge.errors import ConfigError, PromptError, ProtocolError
from lm_deluge.models import Model
from lm_deluge.providers import rate_limits
from lm_deluge.providers._json import decode_object
from lm_deluge.providers._values import Failure, Reply
from lm_deluge.providers.anthropic import build as anthropic_build
from lm_deluge.providers.anthropic import parse as anthropic_parse
from lm_deluge.providers.failures import error_of, failure_from_error, failure_from_response, invalid_response
from lm_deluge.providers.openai_chat import build as openai_build
from lm_deluge.providers.openai_chat import parse as openai_parse
from lm_deluge.request import Request
from lm_deluge.wire import HttpRequest, HttpResponse

__all__ = [
    "build",
    "can_prefill",
    "dropped_parameters",
    "parse",
    "rate_limit_pause",
    "supports_breakpoints",
    "supports_prompt_caching",
]


class WireFormat(msgspec.Struct, frozen=True, kw_only=True):
    """What one wire format consists of."""

    url: Callable[[Model], str]
    build_headers: Callable[[str | None, Mapping[str, str]], dict[str, str]]
    build_body: Callable[..., dict[str, Any]]
    read_reply: Callable[[dict[str, Any]], Reply]
    pause: Callable[..., float | None]
    dropped_parameters: Callable[..., tuple[str, ...]]
    can_prefill: Callable[[Request], bool] = lambda _: False


_FORMATS: Mapping[str, WireFormat] = {
    "anthropic": WireFormat(
        url=anthropic_build.url,
        build_headers=anthropic_build.build_headers,
        build_body=anthropic_build.build_body,
        read_reply=anthropic_parse.read_reply,
        pause=rate_limits.anthropic_pause,
        dropped_parameters=anthropic_build.dropped_parameters,
        can_prefill=anthropic_build.can_prefill,
    ),
    "openai-chat": WireFormat(
        url=openai_build.url,
        build_headers=openai_build.build_headers,
        build_body=openai_build.build_body,
        read_reply=openai_parse.read_reply,
        pause=rate_limits.openai_pause,
        dropped_parameters=openai_build.dropped_parameters,
    ),
}

_encoder = msgspec.json.Encoder()
_USER_AGENT = f"lm_deluge/{__version__}"


def build(request: Request, *, credential: str | None, stream: bool = False) -> HttpRequest:
    """The HTTP request that asks for an answer.

    Args:
        request: what is asked. Its images and files have to be in memory or URLs; a path would be read here.
        credential: the API key; None sends none.
        stream: ask for the answer in pieces, to be read with ``StreamReader``.

    Raises:
        PromptError: the prompt cannot be said in the model's wire format; the message says what to do.
        ConfigError: a key, a breakpoint or an extra field that cannot be sent, or a prefill that is not possible.
    """
    model = request.model
    wire = _FORMATS[model.service.wire]
    if request.prefill and (stream or not wire.can_prefill(request)):
        raise ConfigError(f"{model.name} cannot cache this prompt without answering it. Send it as it is.")
    extra = {name.lower(): value for name, value in request.extra_headers.items()}
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        "user-agent": _USER_AGENT,
        **wire.build_headers(_checked(credential, model), extra),
        **extra,
    }
    body = wire.build_body(request, stream=stream)
    if request.prompt_cache_key is not None:
        caching = model.caching
        if caching.key_field is not None:
            body[caching.key_field] = request.prompt_cache_key
        if caching.key_header is not None:
            headers.setdefault(caching.key_header, request.prompt_cache_key)
    body.update(request.extra_body)
    return HttpRequest(method="POST", url=wire.url(model), headers=headers, body=_encoded(body))


def parse(model: Model, response: HttpResponse, *, now: float, secrets: Secrets = NO_SECRETS) -> Reply | Failure:
    """What an HTTP answer means. Nothing that a server sends makes this raise.

    Args:
        model: which model was asked.
        response: the answer, read to its end.
        now: seconds since the Unix epoch, for headers that give a date.
        secrets: what the server was sent and may repeat in an error.
    """
    if not 200 <= response.status < 300:
        return failure_from_response(model, response, now=now, secrets=secrets)
    return read_whole(model, response.body, status=response.status, headers=response.headers, now=now, secrets=secrets)


def read_whole(
    model: Model,
    body: bytes,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    now: float = 0.0,
    secrets: Secrets = NO_SECRETS,
) -> Reply | Failure:
    """The reply that a body holds which came at once, or a failure."""
    decoded = decode_object(body)
    if decoded is None:
        if len(body) <= LARGE:
            return invalid_response(model, status, "the body is not a JSON object")
        size = f"{len(body) / 1e6:,.0f} MB"
        return invalid_response(model, status, f"its {size} are no JSON object that can be read", again=False)
    error = error_of(decoded)
    if error is not None:
        return failure_from_error(model, error, status=status, secrets=secrets, headers=headers, now=now)
    return read_reply(model, decoded)


def read_reply(model: Model, decoded: dict[str, Any]) -> Reply | Failure:
    """The reply that a decoded answer holds, or a failure if it does not have the documented shape."""
    try:
        return _FORMATS[model.service.wire].read_reply(decoded)
    except (ProtocolError, PromptError, RecursionError) as error:  # the last for JSON nested beyond reason
        reason = str(error) if isinstance(error, ProtocolError) else "the answer cannot be held as a prompt"
        return invalid_response(model, 200, reason)


def rate_limit_pause(model: Model, headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds until a limit that an answer's headers show as spent refills, at most ``MAX_WAIT``.

    None while nothing is known to be spent. Headers are in lower case; ``now`` is in seconds since the Unix epoch.
    """
    return _FORMATS[model.service.wire].pause(headers, now=now)


def dropped_parameters(model: Model, params: SamplingParams, *, has_schema: bool = False) -> tuple[str, ...]:
    """Names of the parameters that are set but not sent, because the model or its API does not take them.

    Args:
        model: which model is asked.
        params: the user's parameters.
        has_schema: whether the request has an ``output_schema``, which covers what ``json_mode`` asks for.
    """
    return _FORMATS[model.service.wire].dropped_parameters(model, params, has_schema=has_schema)


def supports_breakpoints(model: Model) -> bool:
    """Whether breakpoints reach the service that answers for the model. Where they do not, they are left out."""
    return model.caching.takes_marks


def supports_prompt_caching(model: Model) -> bool:
    """Whether anything can be done for the prompt cache of the model's provider: a breakpoint, or a routing key."""
    return model.caching.takes_marks or model.caching.takes_key


def can_prefill(request: Request) -> bool:
    """Whether the provider caches such a prompt on request without answering it. See ``Request.prefill``."""
    return _FORMATS[request.model.service.wire].can_prefill(request)


def _checked(credential: str | None, model: Model) -> str | None:
    if credential is not None and not (credential.isascii() and credential.isprintable() and " " not in credential):
        names = " or ".join(model.service.key_env)
        raise ConfigError(
            f"The API key for {model.service.name} holds a space, a line break or another character that no key has. "
            f"Check {names} or api_key=."
        )
    return credential


def _encoded(body: dict[str, Any]) -> bytes:
    try:
        return _encoder.encode(body)
    except UnicodeEncodeError as error:
        raise PromptError(
            f"The prompt holds text that is not valid Unicode ({error.reason} at character {error.start}). "
            "Replace the lone surrogate, for example with text.encode('utf-8', 'replace').decode()."
        ) from error
    except (TypeError, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"The request has no JSON form: {error}. Check extra_body, output_schema and the tools' parameters."
        ) from error
