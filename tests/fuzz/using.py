"""What people and the package do with a value once it is read: a value that breaks them only moves the crash."""

from collections.abc import Iterator
from typing import Any

import msgspec

from lm_deluge.cache.codec import decode, encode
from lm_deluge.cache.record import pack_request, unpack_request
from lm_deluge.cli.results import result_line
from lm_deluge.cli.rows import Row
from lm_deluge.errors import LMDelugeError
from lm_deluge.models import resolve
from lm_deluge.prompt import Conversation
from lm_deluge.providers import build
from lm_deluge.request import Request
from lm_deluge.response import APIResponse

from .samples import KEY

__all__ = ["MODELS", "use_conversation", "use_response"]

MODELS = [
    resolve("gpt-4.1-mini", base_url="https://api.example.com/v1", environ={}),
    resolve("claude-haiku-4-5", base_url="https://api.example.com", environ={}),
]
"""One of each wire format."""


def use_conversation(conversation: Conversation) -> Iterator[str]:
    """Key it, log it, store it, and build the requests; what is shown of it."""
    paths = [item.path for message in conversation.messages for item in message.media if item.path is not None]
    assert not paths, "plain data have made a prompt that reads a local file"
    assert len(conversation.digest) == 32
    yield repr(conversation)
    conversation.count_tokens()
    assert Conversation.from_log(conversation.to_log()) == conversation, "a conversation is not what its log says"
    conversation.to_log(preserve_media=False)
    packed = pack_request(conversation)
    blobs = packed.blobs
    stored = unpack_request(packed.data, lambda names: {name: blobs[name].data for name in names if name in blobs})
    assert stored.conversation == conversation, "a conversation is not what was stored of it"
    for model in MODELS:
        try:
            request = build(Request(conversation=conversation, model=model), credential="k")
        except LMDelugeError as error:  # it cannot be said in this format
            yield str(error)
            continue
        msgspec.json.decode(request.body)
        yield repr(request)


def use_response(response: APIResponse) -> Iterator[str]:
    """Show it, write it, store it, and go on from it."""
    yield repr(response)
    yield f"{response.completion} {response.thinking} {response.tool_calls} {response.cache_hit}"
    yield repr(response.raw_response)
    plain = response.to_dict()
    assert APIResponse.from_dict(plain).content == response.content, "a response is not what its dict says"
    line: Any = result_line(Row(index=0, line=1, digest="0"), response)
    yield msgspec.json.encode(line).decode()
    again = decode(KEY, encode(KEY, response)).response
    assert again.content == response.content, "a response is not what was stored of it"
    if response.content is not None:
        yield from use_conversation(Conversation.user("?").add(response.content))
