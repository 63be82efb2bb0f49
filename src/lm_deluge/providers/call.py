"""A request as the HTTP request that asks for its answer: what is the same in every wire format."""

from typing import Any

import msgspec

from lm_deluge._version import __version__
from lm_deluge.errors import ConfigError, PromptError
from lm_deluge.models import Model
from lm_deluge.providers._registry import wire_format
from lm_deluge.request import Request
from lm_deluge.wire import HttpRequest

__all__ = ["build"]

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
    form = wire_format(model)
    if request.prefill and (stream or not form.can_prefill(request)):
        raise ConfigError(f"{model.name} cannot cache this prompt without answering it. Send it as it is.")
    extra = {name.lower(): value for name, value in request.extra_headers.items()}
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        "user-agent": _USER_AGENT,
        **form.headers(_checked(credential, model), extra),
        **extra,
    }
    body = form.body(request, stream=stream)
    if request.prompt_cache_key is not None:
        caching = model.caching
        if caching.key_field is not None:
            body[caching.key_field] = request.prompt_cache_key
        if caching.key_header is not None:
            headers.setdefault(caching.key_header, request.prompt_cache_key)
    body.update(request.extra_body)
    return HttpRequest(method="POST", url=form.url(model), headers=headers, body=_encoded(body))


def _checked(credential: str | None, model: Model) -> str | None:
    if credential is not None and not (credential.isascii() and credential.isprintable() and " " not in credential):
        names = " or ".join(model.service.key_env)
        raise ConfigError(
            f"The API key for {model.service.name} holds a space, a line break or another character that no key has. "
            f"Check {names}, or the api_key of the client."
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
