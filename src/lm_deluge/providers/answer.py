"""What comes back, as a reply or a failure: what is the same in every wire format."""

from typing import Any

from lm_deluge._json import LARGE
from lm_deluge._secrets import NO_SECRETS, Secrets
from lm_deluge.errors import PromptError, ProtocolError
from lm_deluge.models import Model
from lm_deluge.providers._json import decode_object
from lm_deluge.providers._registry import wire_format
from lm_deluge.providers._values import Failure, Reply
from lm_deluge.providers.failures import failure_from_error, failure_from_response, invalid_response
from lm_deluge.text import size
from lm_deluge.wire import HttpResponse

__all__ = ["parse", "read_reply"]


def parse(model: Model, response: HttpResponse, *, now: float, secrets: Secrets = NO_SECRETS) -> Reply | Failure:
    """What an HTTP answer, read to its end, means. Nothing that a server sends makes this raise.

    ``now`` is in seconds since the Unix epoch, for headers that give a date; ``secrets`` are what the server was sent
    and may repeat in an error.
    """
    if not 200 <= response.status < 300:
        return failure_from_response(model, response, now=now, secrets=secrets)
    form = wire_format(model)
    decoded = decode_object(response.body, form.answer_fields)
    if decoded is None:
        if len(response.body) <= LARGE:
            return invalid_response(model, "the body is not a JSON object", status=response.status)
        problem = f"its {size(len(response.body))} are no JSON object that can be read"
        return invalid_response(model, problem, status=response.status, again=False)
    error = form.error(decoded)
    if error is not None:
        return failure_from_error(
            model, error, status=response.status, secrets=secrets, headers=response.headers, now=now
        )
    return read_reply(model, decoded)


def read_reply(model: Model, decoded: dict[str, Any]) -> Reply | Failure:
    """The reply that a decoded answer holds, or a failure if it does not have the documented shape."""
    try:
        return wire_format(model).reply(decoded)
    except (ProtocolError, PromptError, RecursionError) as error:  # the last for JSON nested beyond reason
        reason = str(error) if isinstance(error, ProtocolError) else "the answer cannot be held as a prompt"
        return invalid_response(model, reason)
