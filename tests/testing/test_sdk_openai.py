"""The official OpenAI SDK parses the emulator's answers and maps its errors to the right exceptions."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from lm_deluge.testing import Answer, AnswerToolCall, Emulator, Fault, count_tokens, gsm8k

openai = pytest.importorskip("openai")

pytestmark = pytest.mark.usefixtures("sdk_warnings")

MODEL = "gpt-4.1-mini"
QUESTION = gsm8k()[5]["question"]
ANSWER = gsm8k()[5]["answer"]
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"place": {"$ref": "#/$defs/place"}, "days": {"type": "integer", "maximum": 0}},
            "required": ["place", "days"],
            "$defs": {"place": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
        },
    },
}


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Any]:
    with openai.OpenAI(base_url=emulator.openai_base_url, api_key="k", max_retries=0) as made:
        yield made


def ask(text: str = QUESTION) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_a_plain_answer(client: Any, emulator: Emulator) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=ask())
    (choice,) = completion.choices
    assert (choice.message.content, choice.finish_reason, choice.logprobs) == (ANSWER, "stop", None)
    assert (completion.model, completion.object, completion.created) == (MODEL, "chat.completion", 1_700_000_000)
    usage = completion.usage
    assert usage.prompt_tokens == count_tokens(QUESTION) + 1
    assert usage.completion_tokens == count_tokens(ANSWER)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert completion._request_id.startswith("req_")


def test_a_stream_adds_up_to_the_plain_answer(client: Any) -> None:
    plain = client.chat.completions.create(model=MODEL, messages=ask(), n=2)
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=ask(), n=2, stream=True, stream_options={"include_usage": True}
        )
    )
    for index in (0, 1):
        parts = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert parts[0].delta.role == "assistant"
        assert "".join(part.delta.content or "" for part in parts) == plain.choices[index].message.content
        assert [part.finish_reason for part in parts if part.finish_reason] == ["stop"]
    assert plain.choices[0].message.content != plain.choices[1].message.content
    assert (chunks[-1].choices, chunks[-1].usage) == ([], plain.usage)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    without = list(client.chat.completions.create(model=MODEL, messages=ask(), stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in without)


def test_the_token_limit_and_stop_sequences(client: Any) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=ask(), max_tokens=5)
    assert completion.choices[0].finish_reason == "length"
    assert completion.choices[0].message.content == ANSWER[:20]
    completion = client.chat.completions.create(model=MODEL, messages=ask(), stop="####")
    assert completion.choices[0].finish_reason == "stop"
    assert completion.choices[0].message.content == ANSWER.partition("####")[0]


@pytest.mark.parametrize("text", ["plain", "naïve 🤖 text — 漢字"])
def test_logprobs_spell_the_text(text: str) -> None:
    with (
        Emulator(responder=lambda _: Answer(text=text)) as emulator,
        openai.OpenAI(base_url=emulator.openai_base_url, api_key="k") as client,
    ):
        sent: Any = {"model": MODEL, "messages": ask(), "logprobs": True, "top_logprobs": 3}
        tokens = client.chat.completions.create(**sent).choices[0].logprobs.content
        assert b"".join(bytes(token.bytes) for token in tokens).decode() == text
        assert len(tokens) == count_tokens(text)
        for token in tokens:
            assert token.top_logprobs[0].token == token.token
            values = [each.logprob for each in token.top_logprobs]
            assert len(values) == 3
            assert 0 >= values[0] > values[1] > values[2]
        streamed = [
            token
            for chunk in client.chat.completions.create(**sent, stream=True)
            for choice in chunk.choices
            for token in (choice.logprobs.content if choice.logprobs else ())
        ]
        assert streamed == tokens
        plain: Any = {**sent, "top_logprobs": 0}
        assert client.chat.completions.create(**plain).choices[0].logprobs.content[0].top_logprobs == []


def test_a_forced_tool_is_called_with_arguments_that_fit(client: Any) -> None:
    sent: Any = {"model": MODEL, "messages": ask("hi"), "tools": [WEATHER]}
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        (answer,) = client.chat.completions.create(**sent, tool_choice=choice).choices
        assert (answer.finish_reason, answer.message.content) == ("tool_calls", None)
        (call,) = answer.message.tool_calls
        arguments = json.loads(call.function.arguments)
        assert isinstance(arguments["place"]["city"], str)
        assert arguments["days"] <= 0
    parts = [
        chunk.choices[0].delta for chunk in client.chat.completions.create(**sent, tool_choice=choice, stream=True)
    ]
    deltas = [call for part in parts for call in part.tool_calls or ()]
    assert (deltas[0].function.name, deltas[0].type) == ("weather", "function")
    assert "".join(each.function.arguments for each in deltas) == call.function.arguments


def test_a_tool_conversation_with_parallel_calls() -> None:
    calls = tuple(AnswerToolCall(name="weather", arguments={"city": city}) for city in ("Rome", "Oslo"))

    def responder(request: Any) -> Answer:
        return Answer(tool_calls=calls) if request.json["messages"][-1]["role"] == "user" else Answer(text="done")

    with (
        Emulator(responder=responder) as emulator,
        openai.OpenAI(base_url=emulator.openai_base_url, api_key="k") as client,
    ):
        sent: Any = {"model": MODEL, "tools": [WEATHER]}
        message = client.chat.completions.create(**sent, messages=ask()).choices[0].message
        results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in message.tool_calls]
        history = [*ask(), message.model_dump(exclude_none=True), *results]
        final = client.chat.completions.create(**sent, messages=history).choices[0].message
    assert final.content == "done"


def test_structured_output_fits_its_schema(client: Any) -> None:
    pydantic = pytest.importorskip("pydantic")

    class Step(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        text: str

    class Solution(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        steps: list[Step]
        answer: int
        sure: bool

    completion = client.chat.completions.parse(model=MODEL, messages=ask(), response_format=Solution)
    assert isinstance(completion.choices[0].message.parsed, Solution)
    completion = client.chat.completions.create(
        model=MODEL, messages=ask("in JSON"), response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(completion.choices[0].message.content), dict)


def test_images(client: Any) -> None:
    def tokens(detail: str) -> int:
        part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": detail}}
        content = [part, {"type": "text", "text": "word"}]
        completion = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
        return int(completion.usage.prompt_tokens)

    assert (tokens("low"), tokens("high")) == (85 + 2, 1600 + 2)


def test_reasoning_is_counted_and_not_shown(client: Any) -> None:
    sent: Any = {"model": "gpt-6.1-sol", "messages": ask()}
    usage = client.chat.completions.create(**sent, reasoning_effort="low").usage
    assert usage.completion_tokens_details.reasoning_tokens > 0
    assert usage.completion_tokens == count_tokens(ANSWER) + usage.completion_tokens_details.reasoning_tokens
    usage = client.chat.completions.create(**sent, reasoning_effort="none").usage
    assert usage.completion_tokens_details.reasoning_tokens == 0


@pytest.mark.parametrize(
    ("fault", "exception"),
    [
        (Fault.error(400), "BadRequestError"),
        (Fault.error(401), "AuthenticationError"),
        (Fault.error(403), "PermissionDeniedError"),
        (Fault.error(404), "NotFoundError"),
        (Fault.error(409), "ConflictError"),
        (Fault.error(422), "UnprocessableEntityError"),
        (Fault.rate_limit(), "RateLimitError"),
        (Fault.error(500), "InternalServerError"),
        (Fault.overloaded(), "InternalServerError"),
        (Fault.drop(), "APIConnectionError"),
    ],
    ids=lambda each: each if isinstance(each, str) else f"{each.kind}{each.status}",
)
def test_errors(fault: Fault, exception: str, client: Any, emulator: Emulator) -> None:
    emulator.script([fault])
    with pytest.raises(getattr(openai, exception)) as caught:
        client.chat.completions.create(model=MODEL, messages=ask())
    if fault.kind == "error":
        assert caught.value.status_code == fault.status
        assert caught.value.body["message"]


def test_refusals_carry_param_and_code(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="o3", messages=ask(), max_tokens=5)
    assert (caught.value.param, caught.value.code) == ("max_tokens", "unsupported_parameter")


def test_an_error_in_the_middle_of_a_stream(client: Any, emulator: Emulator) -> None:
    emulator.script([Fault.error_mid_stream()])
    with pytest.raises(openai.APIError, match="Overloaded"):
        list(client.chat.completions.create(model=MODEL, messages=ask(), stream=True))
