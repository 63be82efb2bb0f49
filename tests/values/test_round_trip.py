"""Logs of prompts and responses go through JSON and come back."""

import hashlib
import json

import msgspec
import pytest
from hypothesis import given

from lm_deluge.errors import PromptError
from lm_deluge.prompt import Conversation, File, Image, Message, Text, ToolCall, ToolResult
from lm_deluge.response import APIResponse
from lm_deluge.usage import Usage

from . import samples
from . import strategies as some


def through_json(value):
    return json.loads(json.dumps(value))


@given(some.conversations)
def test_any_conversation_comes_back(conversation):
    returned = Conversation.from_log(through_json(conversation.to_log()))
    assert some.shape(returned) == some.shape(conversation)
    assert returned.to_log() == conversation.to_log()


@given(some.conversations)
def test_a_log_without_media_is_json_and_changes_nothing_else(conversation):
    log = through_json(conversation.to_log(preserve_media=False))
    full = through_json(conversation.to_log())
    assert [message["role"] for message in log.get("messages", [])] == [m.role for m in conversation.messages]
    for message, logged, whole in zip(
        conversation.messages, log.get("messages", []), full.get("messages", []), strict=True
    ):
        for part, item, original in zip(message.parts, logged.get("parts", []), whole.get("parts", []), strict=True):
            if isinstance(part, (Image, File)) and part.data is not None:
                assert "data" not in item
                assert item["omitted"] == {"sha256": hashlib.sha256(part.data).hexdigest(), "bytes": len(part.data)}
            elif not (isinstance(part, ToolResult) and "result" in original and isinstance(original["result"], list)):
                assert item == original


def test_paths_and_urls_stay_in_a_log(tmp_path):
    conversation = Conversation.user(image=tmp_path / "missing.png").user(file="https://example.com/a.pdf")
    for log in (conversation.to_log(), conversation.to_log(preserve_media=False)):
        returned = Conversation.from_log(through_json(log), allow_paths=True)
        assert returned.messages == conversation.messages, "nothing was read or fetched"


def test_data_that_look_like_media_are_left_alone():
    arguments = {"type": "image", "data": "eA==", "nested": [{"type": "file", "data": 5}]}
    conversation = Conversation((Message("assistant", (ToolCall("1", "save", arguments),)),))
    assert conversation.to_log(preserve_media=False) == conversation.to_log()


def test_media_inside_tool_results_are_left_out_too():
    conversation = Conversation().with_tool_result("1", [Text("see"), Image.of(samples.png())])
    result = conversation.to_log(preserve_media=False)["messages"][0]["parts"][0]["result"]
    assert result[0] == {"type": "text", "text": "see"}
    assert result[1]["omitted"] == {
        "sha256": hashlib.sha256(samples.png()).hexdigest(),
        "bytes": len(samples.png()),
    }


@pytest.mark.parametrize(
    "conversation",
    [
        Conversation.user("?", image=samples.png()),
        Conversation.user("?", file=samples.PDF),
        Conversation().with_tool_result("1", [Image.of(samples.png())]),
    ],
)
def test_a_log_whose_media_were_left_out_does_not_come_back_as_another_prompt(conversation):
    with pytest.raises(PromptError, match="just one of them"):
        Conversation.from_log(conversation.to_log(preserve_media=False))


def test_a_log_is_plain_and_its_own():
    conversation = samples.golden()["tool_call"]
    log = conversation.to_log()

    def check(value):
        assert type(value) in (dict, list, str, int, float, bool, type(None))
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(item)

    check(log)
    before = conversation.fingerprint
    log["messages"][-1]["parts"][0]["arguments"]["a"].append("changed")
    assert conversation.fingerprint == before == samples.golden()["tool_call"].fingerprint


@pytest.mark.parametrize(
    "payload",
    [
        None,
        5,
        "text",
        [],
        {"messages": 5},
        {"messages": [{"role": "user", "parts": "hi"}]},
        {"messages": [{"role": "nobody"}]},
        {"messages": [{"parts": []}]},
        {"messages": [{"role": "user", "parts": [{"type": "video"}]}]},
        {"messages": [{"role": "user", "parts": [{"text": "no type"}]}]},
        {"messages": [{"role": "user", "parts": [{"type": "text", "text": 5}]}]},
        {"messages": [{"role": "user", "parts": [{"type": "image"}]}]},
        {"messages": [{"role": "user", "parts": [{"type": "image", "data": "not base64!"}]}]},
        {"messages": [{"role": "user", "parts": [{"type": "image", "data": "eA==", "url": "https://a/"}]}]},
        {"messages": [{"role": "user", "parts": [{"type": "image", "url": "https://a/", "detail": "medium"}]}]},
        {
            "messages": [
                {"role": "assistant", "parts": [{"type": "tool_call", "id": "1", "name": "f", "arguments": []}]}
            ]
        },
        {"messages": [{"role": "tool", "parts": [{"type": "tool_result", "tool_call_id": "1", "result": 5}]}]},
    ],
)
def test_another_shape_is_refused(payload):
    with pytest.raises(PromptError, match="not a logged conversation"):
        Conversation.from_log(payload)


def test_a_response_comes_back_in_everything():
    answer = APIResponse(
        id=7,
        model_internal="claude-haiku",
        model_external="claude-haiku-5.5-20260801",
        content=Message.ai("4").with_thinking("hm", "c2ln").with_tool_call("call_1", "add", {"a": [1, 2.5]}),
        usage=Usage(input_tokens=1, output_tokens=2, cache_read_tokens=3, cache_write_tokens=4, reasoning_tokens=1),
        cost=0.001,
        cost_avoided=0.002,
        finish_reason="tool_calls",
        logprobs=[{"token": "4", "logprob": -0.5, "top_logprobs": []}],
        status_code=200,
        local_cache_hit=True,
        response_id="msg_1",
        raw_body=b'{"id": "msg_1", "odd": "\xc3\xbc"}',
        sample=2,
        entry="00ff",
    )
    returned = APIResponse.from_dict(through_json(answer.to_dict()))
    assert returned == answer
    assert returned.raw_response == {"id": "msg_1", "odd": "ü"}
    assert set(answer.to_dict()) | {"is_error", "error_message"} == set(APIResponse.__struct_fields__)


def test_an_error_response_comes_back():
    error = APIResponse(id=3, model_internal="m", is_error=True, error_message="It failed.", status_code=500)
    returned = APIResponse.from_dict(through_json(error.to_dict()))
    assert returned == error
    assert (returned.completion, returned.thinking, returned.tool_calls, returned.usage) == (None, None, [], None)
    assert (returned.input_tokens, returned.cache_hit, returned.raw_response) == (None, False, None)


def test_a_response_of_another_shape_is_refused():
    with pytest.raises(msgspec.ValidationError):
        APIResponse.from_dict({"id": "seven"})


@pytest.mark.parametrize("field", ["content", "model_internal", "error_message"])
def test_a_response_with_half_a_character_is_refused(field):
    with pytest.raises((PromptError, msgspec.ValidationError)):
        APIResponse.from_dict({"id": 0, "model_internal": "m", field: "\ud800"})


@pytest.mark.parametrize(("body", "expected"), [(b"not json", None), (b"[1]", None), (b"\xff", None), (b"{}", {})])
def test_the_raw_response_is_a_new_dict_or_none(body, expected):
    response = APIResponse(raw_body=body)
    assert response.raw_response == expected
    if expected is not None:
        assert response.raw_response is not response.raw_response


def test_what_a_response_says_of_its_content():
    content = Message.ai().with_thinking("one").with_text("4").with_thinking("").with_thinking("two").with_text("2")
    response = APIResponse(content=content, usage=Usage(input_tokens=1, output_tokens=2, cache_read_tokens=3))
    assert response.completion == "42"
    assert response.thinking == "one\ntwo"
    assert (response.input_tokens, response.output_tokens) == (1, 2)
    assert (response.cache_read_tokens, response.cache_write_tokens, response.cache_hit) == (3, 0, True)
    assert APIResponse(content=Message.ai("4")).thinking is None
    assert APIResponse(content=Message.ai()).completion is None


def test_usage_adds_up():
    one = Usage(input_tokens=1, output_tokens=2, cache_read_tokens=4, cache_write_tokens=8, cache_write_1h_tokens=5)
    two = Usage(input_tokens=10, output_tokens=20, reasoning_tokens=7)
    both = one + two
    assert both == Usage(
        input_tokens=11,
        output_tokens=22,
        cache_read_tokens=4,
        cache_write_tokens=8,
        cache_write_1h_tokens=5,
        reasoning_tokens=7,
    )
    assert sum([one, two], Usage()) == both
    assert both.total_input_tokens == 11 + 4 + 8, "the hour's share is part of what was written"
    assert both.total_tokens == 23 + 22, "reasoning is part of the output"
    assert (one.has_cache_hit, one.has_cache_write) == (True, True)
    assert (two.has_cache_hit, two.has_cache_write) == (False, False)
    with pytest.raises(TypeError):
        one + 5
