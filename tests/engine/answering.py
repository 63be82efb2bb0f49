"""A function that answers any request, for programs that need no emulator."""

import msgspec

from lm_deluge.wire import HttpRequest, HttpResponse


def answer(request: HttpRequest) -> HttpResponse:
    """One word."""
    message = {"role": "assistant", "content": "yes"}
    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4.1-mini",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    return HttpResponse(status=200, headers={}, body=msgspec.json.encode(body))
