"""The registry of wire formats: what no judge of bodies sees."""

import json

import pytest

from lm_deluge.models import SERVICES, Model, resolve
from lm_deluge.prompt import Conversation, Message, ProviderBlock, Text, Thinking, ToolCall, ToolResult
from lm_deluge.providers import FORMATS, build, wire_format
from lm_deluge.request import Request
from lm_deluge.tool import Tool

CLAUDE = resolve("claude-sonnet-4-5", environ={})
GPT = resolve("gpt-4.1", environ={})
PARTS = [
    Text(""),
    Text(" \n"),
    Text("Hi"),
    Thinking("Hm"),
    Thinking("Hm", signature=""),
    Thinking("Hm", signature="s"),
    Thinking(redacted="r"),
    ProviderBlock("anthropic", {"type": "server_tool_use", "id": "s", "name": "n", "input": {}}),
    ProviderBlock("openai-chat", {"type": "chart"}),
    ProviderBlock("elsewhere", {"type": "odd"}),
    ToolCall("c", "f"),
]


def test_every_service_speaks_a_registered_format() -> None:
    assert {service.wire for service in SERVICES.values()} == FORMATS.keys()
    assert all(name == form.name for name, form in FORMATS.items())


@pytest.mark.parametrize("model", [CLAUDE, GPT], ids=lambda model: model.name)
@pytest.mark.parametrize("part", PARTS, ids=repr)
def test_a_body_holds_the_parts_that_the_format_says_are_sent(model: Model, part: Text) -> None:
    conversation = Conversation([Message.user("Q"), Message("assistant", [Text("A"), part]), Message.user("And?")])
    body = json.loads(build(Request(conversation=conversation, model=model), credential=None).body)
    answer = body["messages"][1]
    content = answer["content"]
    blocks = [content] if isinstance(content, str) else content
    assert len(blocks) + len(answer.get("tool_calls", ())) == 1 + wire_format(model).is_sent(part)


@pytest.mark.parametrize("model", [CLAUDE, GPT], ids=lambda model: model.name)
def test_a_tool_is_about_as_long_as_its_outline(model: Model) -> None:
    tool = Tool(name="f", description="Does.", parameters={"type": "object", "properties": {"a": {"type": "string"}}})
    request = Request(conversation=Conversation.user("Q"), model=model, tools=[tool])
    (sent,) = json.loads(build(request, credential=None).body)["tools"]
    assert wire_format(model).tool_outline(tool) == sent


def test_a_result_that_is_written_as_a_block_of_anthropic_opens_its_turn_too() -> None:
    raw = ProviderBlock("anthropic", {"type": "tool_result", "tool_use_id": "c", "content": "4"})
    opens_turn = wire_format(CLAUDE).opens_turn
    assert opens_turn(raw)
    assert opens_turn(ToolResult("c", "4"))
    assert not opens_turn(Text("4"))
