"""Whole answers of providers, in both wire formats: the status, a line feed, the body.

They are read as the package reads them, and once more through a client, which stores what it takes for an answer.
"""

from pathlib import Path

import msgspec
from hypothesis import strategies as st

from lm_deluge.models import Model
from lm_deluge.providers import Failure, parse, wire_format
from lm_deluge.response import APIResponse
from lm_deluge.wire import HttpResponse

from .. import edits, samples
from ..asking import ask, check_message
from ..using import MODELS, use_response

SECONDS = 12.0


def target(data: bytes, tmp: Path) -> list[str]:
    response = response_of(data)
    said: list[str] = []
    for model in MODELS:
        said += read(model, response)
    return said + ask(MODELS[len(data) % 2].name, response, stream=False)


def response_of(data: bytes) -> HttpResponse:
    """The response that a case stands for: status, headers in JSON where there are any, and the body."""
    head, _, body = data.partition(b"\n")
    status, _, headers = head.partition(b" ")
    return HttpResponse(
        status=int(status) if status.isdigit() and len(status) == 3 else 200, headers=_headers(headers), body=body
    )


def _headers(given: bytes) -> dict[str, str]:
    try:
        return msgspec.json.decode(given, type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}


def read(model: Model, response: HttpResponse) -> list[str]:
    """What an answer means."""
    pause = wire_format(model).pause(response.headers, now=1e9)
    assert pause is None or 0 < pause <= 600, "a header asks for a wait beyond the bound"
    reply = parse(model, response, now=1e9)
    if isinstance(reply, Failure):
        check_message(reply.message)
        assert reply.retry_after is None or 0 <= reply.retry_after <= 600, "a header asks for a wait beyond the bound"
        return [repr(reply)]
    answer = APIResponse(
        model_internal=model.name,
        model_external=reply.model,
        content=reply.content,
        usage=reply.usage,
        finish_reason=reply.finish_reason,
        logprobs=reply.logprobs,
        status_code=response.status,
        response_id=reply.response_id,
        raw_body=response.body,
    )
    return list(use_response(answer))


def cases() -> st.SearchStrategy[bytes]:
    answers = [samples.COMPLETION, samples.PARTED, samples.MESSAGE]
    encoded = [b"200\n" + msgspec.json.encode(answer) for answer in answers]
    body = edits.trees_like([*answers, [samples.MESSAGE]], lambda tree: b"200\n" + msgspec.json.encode(tree))
    return st.one_of(body, edits.edited(body), edits.bytes_like(encoded, least=1))
