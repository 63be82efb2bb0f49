"""The official Anthropic SDK parses the emulator's answers and maps its errors to the right exceptions."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from lm_deluge.testing import Answer, AnswerToolCall, Emulator, Fault, count_tokens, gsm8k

anthropic = pytest.importorskip("anthropic")

pytestmark = pytest.mark.usefixtures("sdk_warnings")

HAIKU = "claude-haiku-5-5"
OLDER = "claude-haiku-4-5"
QUESTION = gsm8k()[5]["question"]
ANSWER = gsm8k()[5]["answer"]
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
WEATHER = {
    "name": "weather",
    "description": "The weather at a place.",
    "input_schema": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "minLength": 3},
            "days": {"type": "integer", "minimum": 2},
            "unit": {"enum": ["C", "F"]},
            "note": {"type": "string"},
        },
        "required": ["city", "days", "unit"],
    },
}


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=emulator.anthropic_base_url, api_key="k", max_retries=0) as made:
        yield made


def ask(text: str = QUESTION) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_a_plain_answer(client: Any) -> None:
    message = client.messages.create(model=OLDER, max_tokens=500, messages=ask())
    assert [block.type for block in message.content] == ["text"]
    assert message.content[0].text == ANSWER
    assert (message.stop_reason, message.stop_sequence, message.model) == ("end_turn", None, OLDER)
    assert message.usage.input_tokens == count_tokens(QUESTION)
    assert message.usage.output_tokens == count_tokens(ANSWER)
    assert message.usage.cache_creation.ephemeral_5m_input_tokens == 0
    assert message._request_id.startswith("req_")


def test_a_stream_adds_up_to_the_plain_answer(client: Any) -> None:
    plain = client.messages.create(model=HAIKU, max_tokens=500, messages=ask())
    with client.messages.stream(model=HAIKU, max_tokens=500, messages=ask()) as stream:
        kinds = [event.type for event in stream]
        whole = stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    same = {"content", "stop_reason", "stop_sequence", "model", "usage"}
    assert whole.model_dump(include=same, exclude={"content": {"__all__": {"parsed_output"}}}) == plain.model_dump(
        include=same
    )


def test_the_token_limit_and_stop_sequences(client: Any) -> None:
    message = client.messages.create(model=OLDER, max_tokens=5, messages=ask())
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 5)
    assert message.content[0].text == ANSWER[:20]
    message = client.messages.create(model=OLDER, max_tokens=500, messages=ask(), stop_sequences=["####", "zzz"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "####")
    assert message.content[0].text == ANSWER.partition("####")[0]


def test_a_forced_tool_is_called_with_arguments_that_fit(client: Any) -> None:
    sent: Any = {"model": OLDER, "max_tokens": 200, "tools": [WEATHER], "messages": ask("hi")}
    for choice in ({"type": "tool", "name": "weather"}, {"type": "any"}):
        message = client.messages.create(**sent, tool_choice=choice)
        (call,) = message.content
        assert (message.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "weather")
        assert set(call.input) == {"city", "days", "unit"}
        assert call.input["days"] >= 2
        assert call.input["unit"] == "C"
    with client.messages.stream(**sent, tool_choice={"type": "any"}) as stream:
        assert stream.get_final_message().content[0].input == call.input


def test_a_tool_conversation(client: Any, emulator: Emulator) -> None:
    sent: Any = {"model": OLDER, "max_tokens": 200, "tools": [WEATHER]}
    first = client.messages.create(**sent, messages=ask("hi"), tool_choice={"type": "any"})
    result = {"type": "tool_result", "tool_use_id": first.content[0].id, "content": "sunny", "is_error": False}
    history = [*ask("hi"), {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(**sent, messages=history).stop_reason == "end_turn"


def test_a_scripted_answer_with_text_and_parallel_calls() -> None:
    calls = tuple(AnswerToolCall(name="weather", arguments={"city": city}) for city in ("Rome", "Oslo", "Köln"))
    with (
        Emulator(responder=lambda _: Answer(text="I look.", tool_calls=calls)) as emulator,
        anthropic.Anthropic(base_url=emulator.url, api_key="k") as client,
        client.messages.stream(model=OLDER, max_tokens=200, tools=[WEATHER], messages=ask()) as stream,
    ):
        whole = stream.get_final_message()
    assert [block.type for block in whole.content] == ["text", "tool_use", "tool_use", "tool_use"]
    assert [block.input["city"] for block in whole.content[1:]] == ["Rome", "Oslo", "Köln"]
    assert len({block.id for block in whole.content[1:]}) == 3


def test_thinking_is_signed_and_may_be_sent_back(client: Any) -> None:
    config = {"type": "enabled", "budget_tokens": 1024}
    first = client.messages.create(model=OLDER, max_tokens=2000, messages=ask(), thinking=config)
    thought, text = first.content
    assert (thought.type, text.type) == ("thinking", "text")
    assert thought.thinking
    assert first.usage.output_tokens_details.thinking_tokens == count_tokens(thought.thinking)
    history = [*ask(), {"role": "assistant", "content": first.content}, *ask("go on")]
    client.messages.create(model=OLDER, max_tokens=2000, messages=history, thinking=config)
    changed = [{**thought.model_dump(), "thinking": "something else"}, text.model_dump(exclude={"citations"})]
    history[1] = {"role": "assistant", "content": changed}
    with pytest.raises(anthropic.BadRequestError, match="Invalid `signature` in `thinking` block"):
        client.messages.create(model=OLDER, max_tokens=2000, messages=history, thinking=config)


def test_newer_models_bind_a_thought_to_its_conversation(client: Any) -> None:
    sent: Any = {"model": HAIKU, "max_tokens": 500}
    first = client.messages.create(**sent, system="be brief", messages=ask())
    assert first.content[0].type == "thinking"
    assert first.content[0].thinking == "", "omitted unless asked for"
    history = [*ask(), {"role": "assistant", "content": first.content}, *ask("go on")]
    second = client.messages.create(**sent, system="be brief", messages=history)
    history += [{"role": "assistant", "content": second.content}, *ask("and on")]
    client.messages.create(**sent, system="be brief", messages=history)
    with pytest.raises(anthropic.BadRequestError, match="bound to a different conversation"):
        client.messages.create(**sent, system="be verbose", messages=history)
    shown = client.messages.create(**sent, messages=ask(), thinking={"type": "adaptive", "display": "summarized"})
    assert shown.content[0].thinking


def test_structured_output_fits_its_schema(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {
            "answer": {"type": "integer"},
            "steps": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        },
        "required": ["answer", "steps"],
        "additionalProperties": False,
    }
    output = {"format": {"type": "json_schema", "schema": schema}}
    message = client.messages.create(model=OLDER, max_tokens=200, messages=ask(), output_config=output)
    import json

    value = json.loads(message.content[0].text)
    assert isinstance(value["answer"], int)
    assert len(value["steps"]) == 2


def test_images_and_documents(client: Any) -> None:
    content: Any = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "word" * 7}},
        {"type": "text", "text": "what is this?", "cache_control": {"type": "ephemeral"}},
    ]
    message = client.messages.create(model=HAIKU, max_tokens=50, messages=[{"role": "user", "content": content}])
    assert message.usage.cache_creation_input_tokens == 1600 + 7 + count_tokens("what is this?")


def test_counting_tokens(client: Any) -> None:
    counted = client.messages.count_tokens(model=HAIKU, system="be brief", messages=ask())
    assert counted.input_tokens == count_tokens("be brief") + count_tokens(QUESTION)


@pytest.mark.parametrize(
    ("fault", "exception"),
    [
        (Fault.error(400), "BadRequestError"),
        (Fault.error(401), "AuthenticationError"),
        (Fault.error(403), "PermissionDeniedError"),
        (Fault.error(404), "NotFoundError"),
        (Fault.error(409), "ConflictError"),
        (Fault.rate_limit(), "RateLimitError"),
        (Fault.spend_limit(), "RateLimitError"),
        (Fault.error(500), "InternalServerError"),
        (Fault.overloaded(), "InternalServerError"),
        (Fault.drop(), "APIConnectionError"),
    ],
    ids=lambda each: each if isinstance(each, str) else f"{each.kind}{each.status}",
)
def test_errors(fault: Fault, exception: str, client: Any, emulator: Emulator) -> None:
    emulator.script([fault])
    with pytest.raises(getattr(anthropic, exception)) as caught:
        client.messages.create(model=OLDER, max_tokens=50, messages=ask())
    if fault.kind == "error":
        assert caught.value.status_code == fault.status
        assert caught.value.request_id.startswith("req_")


def test_an_error_in_the_middle_of_a_stream(client: Any, emulator: Emulator) -> None:
    emulator.script([Fault.error_mid_stream()])
    with (
        pytest.raises(anthropic.APIStatusError, match="Overloaded"),
        client.messages.stream(model=OLDER, max_tokens=50, messages=ask()) as stream,
    ):
        stream.get_final_message()


def test_the_sdk_retries_what_is_worth_it(emulator: Emulator) -> None:
    with anthropic.Anthropic(base_url=emulator.url, api_key="k", max_retries=1) as client:
        emulator.script([Fault.rate_limit(retry_after=0.001)])
        client.messages.create(model=OLDER, max_tokens=50, messages=ask())
    assert [each.status for each in emulator.requests] == [429, 200]
