"""The golden rows through the writers, the readers, and the official SDKs' own response models."""

import json

import pytest

from lm_deluge.models import resolve
from lm_deluge.prompt import Conversation, Message, Part
from lm_deluge.providers import Reply, build, parse
from lm_deluge.request import Request
from lm_deluge.wire import HttpResponse

from . import golden

CLAUDE = resolve("claude-sonnet-4-5", environ={})
GPT = resolve("gpt-4.1", environ={})
FIRST = Message.user("Go")


def written(model, *messages: Message) -> list[dict]:
    request = Request(conversation=Conversation(messages), model=model)
    return json.loads(build(request, credential="k").body)["messages"]


def read(model, body: bytes) -> Reply:
    reply = parse(model, HttpResponse(status=200, headers={}, body=body), now=0.0)
    assert isinstance(reply, Reply)
    return reply


@pytest.mark.parametrize(("part", "block"), golden.ANTHROPIC_BLOCKS.values(), ids=golden.ANTHROPIC_BLOCKS)
def test_anthropic_blocks_both_ways(part: Part, block: bytes) -> None:
    anchor = b'{"type":"text","text":"."}'  # a lone text would be shortened to a string
    assert read(CLAUDE, b'{"content":[' + block + b"," + anchor + b"]}").content.parts[0] == part
    message = Message("assistant", (part,)).with_text(".")
    assert written(CLAUDE, FIRST, message)[1]["content"] == [json.loads(block), json.loads(anchor)]


@pytest.mark.parametrize(("part", "block"), golden.ANTHROPIC_USER_BLOCKS.values(), ids=golden.ANTHROPIC_USER_BLOCKS)
def test_anthropic_user_blocks(part: Part, block: bytes) -> None:
    assert written(CLAUDE, Message("user", (part,))) == [{"role": "user", "content": [json.loads(block)]}]


@pytest.mark.parametrize(("message", "wire"), golden.OPENAI_ASSISTANT.values(), ids=golden.OPENAI_ASSISTANT)
def test_openai_assistant_messages_both_ways(message: Message, wire: bytes) -> None:
    assert read(GPT, b'{"choices":[{"message":' + wire + b"}]}").content == message
    assert written(GPT, message) == [json.loads(wire)]


@pytest.mark.parametrize(("messages", "wire"), golden.OPENAI_MESSAGES.values(), ids=golden.OPENAI_MESSAGES)
def test_openai_messages(messages: list[Message], wire: bytes) -> None:
    assert written(GPT, *messages) == json.loads(wire)


@pytest.mark.parametrize(("body", "reply"), golden.ANTHROPIC_REPLIES.values(), ids=golden.ANTHROPIC_REPLIES)
def test_anthropic_replies_agree_with_the_sdk(body: bytes, reply: Reply) -> None:
    from anthropic.types import Message as SdkMessage

    assert read(CLAUDE, body) == reply
    theirs = SdkMessage.model_validate_json(body)
    text = "".join(block.text for block in theirs.content if block.type == "text")
    assert (reply.content.completion or "") == text
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (
        theirs.usage.input_tokens,
        theirs.usage.output_tokens,
    )
    assert reply.usage.cache_read_tokens == (theirs.usage.cache_read_input_tokens or 0)
    assert reply.usage.cache_write_tokens == (theirs.usage.cache_creation_input_tokens or 0)
    assert (reply.response_id, reply.model) == (theirs.id, theirs.model)
    calls = [(block.id, block.name, block.input) for block in theirs.content if block.type == "tool_use"]
    assert [(call.id, call.name, call.arguments) for call in reply.content.tool_calls] == calls


@pytest.mark.parametrize(("body", "reply"), golden.OPENAI_REPLIES.values(), ids=golden.OPENAI_REPLIES)
def test_openai_replies_agree_with_the_sdk(body: bytes, reply: Reply) -> None:
    from openai.types.chat import ChatCompletion

    assert read(GPT, body) == reply
    theirs = ChatCompletion.model_validate_json(body)
    message = theirs.choices[0].message
    assert reply.content.completion == (message.content or message.refusal)
    assert reply.usage.total_input_tokens == theirs.usage.prompt_tokens
    assert reply.usage.output_tokens == theirs.usage.completion_tokens
    assert (reply.response_id, reply.model) == (theirs.id, theirs.model)
    calls = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]
    assert [(call.id, call.name, call.arguments) for call in reply.content.tool_calls] == calls
    tokens = [token.token for token in theirs.choices[0].logprobs.content] if theirs.choices[0].logprobs else None
    assert ([token["token"] for token in reply.logprobs] if reply.logprobs else None) == tokens


@pytest.mark.parametrize(
    ("usage", "written", "written_1h"),
    [
        (b'{"cache_creation_input_tokens":7}', 7, 0),  # before the split by lifetime, and in gateways
        (b'{"cache_creation":{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":4}}', 7, 4),
        (b'{"cache_creation_input_tokens":null,"cache_creation":null}', 0, 0),
    ],
)
def test_anthropic_cache_writes_with_and_without_lifetimes(usage: bytes, written: int, written_1h: int) -> None:
    found = read(CLAUDE, b'{"content":[],"usage":' + usage + b"}").usage
    assert (found.cache_write_tokens, found.cache_write_1h_tokens) == (written, written_1h)
