"""A hit equals what was bought, whatever store it comes from; and no two requests ever share a key."""

import asyncio
import base64
import itertools
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_deluge import LLMClient
from lm_deluge.cache import DistributedDictCache, MemoryCache, ResponseCache
from lm_deluge.errors import ModelWarning
from lm_deluge.prompt import Conversation, Message
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse
from lm_deluge.transport.mock import MockTransport
from lm_deluge.wire import HttpRequest, HttpResponse

from ..values import strategies as small
from . import strategies as some
from .conftest import Shelf
from .helpers import prompt
from .redis_server import RedisServer

quick = settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
DISTINCT = itertools.count()


@pytest.fixture(scope="module", params=["sqlite", "leveldb", "redis", "mapping", "memory"])
def lasting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer
) -> Iterator[ResponseCache]:
    """A cache that the examples of one test share."""
    if request.param == "leveldb":
        pytest.importorskip("plyvel")
    shelf = Shelf(request.param, tmp_path_factory.mktemp("lasting"), redis_server.url)
    yield shelf.make()
    shelf.close()


# Values

odd_numbers = st.sampled_from([0.0, -0.0, 1e308, 5e-324, float("inf"), float("-inf"), 2**63 - 1, -(2**63), 2**64 - 1])
odd_logprobs = st.lists(
    st.dictionaries(st.text(max_size=4), some.json_values | odd_numbers, max_size=4), min_size=1, max_size=3
)
responses = st.one_of(
    some.responses,
    st.builds(
        APIResponse,
        model_internal=st.text(max_size=9),
        model_external=st.none() | st.text(max_size=9),
        content=some.messages | st.none(),
        usage=st.none() | some.usages,
        cost=st.none() | st.floats(0, allow_infinity=False),
        cost_avoided=st.floats(0, allow_infinity=False),
        finish_reason=st.none() | st.text(max_size=9),
        logprobs=st.none() | st.just([]) | odd_logprobs,
        status_code=st.none() | st.integers(0, 999),
        response_id=st.none() | st.text(max_size=9),
        raw_body=st.none() | st.binary(max_size=99),
    ),
)


@given(some.conversations, st.lists(responses, min_size=1, max_size=4))
@quick
def test_any_response_comes_back_through_the_path_of_a_run(
    lasting: ResponseCache, conversation: Conversation, answered: list[APIResponse]
) -> None:
    asked = [conversation.user(f"{next(DISTINCT)}") for _ in answered]

    async def main() -> list[APIResponse | None]:
        await asyncio.gather(*map(lasting.store, asked, answered))
        return [found.response for found in await lasting.get_many(asked)]

    for response, found in zip(answered, asyncio.run(main()), strict=True):
        assert found == msgspec.structs.replace(response, id=0, local_cache_hit=False, entry=None)
        assert msgspec.msgpack.encode(found) == msgspec.msgpack.encode(
            msgspec.structs.replace(response, id=0, local_cache_hit=False, entry=None)
        )  # also where 1 == 1.0 == True, and 0.0 == -0.0


# Through a client

arguments = some.json_objects | st.just({"x": 2**70})
tool_calls = st.builds(
    lambda name, given: {"id": name, "type": "function", "function": {"name": name, "arguments": json.dumps(given)}},
    some.words,
    arguments,
)
tokens = st.integers(0, 10**6)
openai_bodies = st.fixed_dictionaries(
    {
        "id": some.words,
        "model": st.just("gpt-4.1-mini") | some.words,
        "choices": st.fixed_dictionaries(
            {
                "message": st.fixed_dictionaries(
                    {"role": st.just("assistant"), "content": some.texts | st.none()},
                    optional={
                        "tool_calls": st.lists(tool_calls, max_size=3),
                        "reasoning_content": some.texts,
                        "annotations": st.lists(some.json_objects, max_size=2),
                    },
                ),
                "finish_reason": st.sampled_from(["stop", "length", "tool_calls", None, "odd"]),
            },
            optional={"logprobs": st.fixed_dictionaries({"content": some.logprobs})},
        ).map(lambda choice: [choice]),
        "usage": st.fixed_dictionaries({"prompt_tokens": tokens, "completion_tokens": tokens}) | st.none(),
    },
    optional={"service_tier": some.words, "x": some.json_values},
)
anthropic_blocks = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, some.texts),
    st.builds(lambda text, sign: {"type": "thinking", "thinking": text, "signature": sign}, some.texts, some.words),
    st.builds(lambda data: {"type": "redacted_thinking", "data": data}, some.words),
    st.builds(
        lambda name, given: {"type": "tool_use", "id": name, "name": name, "input": given}, some.words, arguments
    ),
    st.builds(lambda more: {**more, "type": "server_tool_use"}, some.json_objects),
)
anthropic_bodies = st.fixed_dictionaries(
    {
        "id": some.words,
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": st.just("claude-sonnet-4-5-20250929") | some.words,
        "content": st.lists(anthropic_blocks, max_size=4),
        "stop_reason": st.sampled_from(["end_turn", "max_tokens", "tool_use", "pause_turn"]),
        "usage": st.fixed_dictionaries(
            {"input_tokens": tokens, "output_tokens": tokens},
            optional={"cache_read_input_tokens": tokens, "cache_creation_input_tokens": tokens},
        ),
    }
)


def answers(model: str, bodies: list[bytes], cache: ResponseCache) -> tuple[list[APIResponse], list[APIResponse]]:
    """What a client gives when it asks for the first and for the second time."""
    asked = [prompt(f"{next(DISTINCT)}") for _ in bodies]
    by_text = {question.messages[0].completion: body for question, body in zip(asked, bodies, strict=True)}

    def answer(request: HttpRequest) -> HttpResponse:
        said = msgspec.json.decode(request.body)["messages"][-1]["content"]
        text = said if isinstance(said, str) else said[0]["text"]
        return HttpResponse(status=200, headers={"content-type": "application/json"}, body=by_text[text])

    client = LLMClient(
        model,
        cache=cache,
        api_key="k",
        transport=MockTransport(answer),
        max_attempts=1,
        max_requests_per_minute=10**9,
        max_tokens_per_minute=10**12,
    )
    first, second = (client.process_prompts_sync(asked, show_progress=False) for _ in range(2))
    return first, second


def assert_hits_equal(first: list[APIResponse], second: list[APIResponse]) -> None:
    for bought, again in zip(first, second, strict=True):
        if bought.entry is None:
            assert not again.local_cache_hit  # an error, a refusal or nothing: bought again
            continue
        hit = msgspec.structs.replace(bought, local_cache_hit=True, cost=0.0, cost_avoided=bought.cost or 0.0)
        assert msgspec.msgpack.encode(again) == msgspec.msgpack.encode(hit)
        assert (again.completion, again.thinking, again.tool_calls) == (hit.completion, hit.thinking, hit.tool_calls)
        assert again.raw_response == bought.raw_response


@pytest.mark.filterwarnings(f"ignore::{ModelWarning.__module__}.ModelWarning")
@given(openai=st.lists(openai_bodies, min_size=1, max_size=3), anthropic=st.lists(anthropic_bodies, max_size=3))
@quick
def test_whatever_a_provider_sends_a_hit_equals_it(
    lasting: ResponseCache, openai: list[dict[str, Any]], anthropic: list[dict[str, Any]]
) -> None:
    for model, bodies in (("gpt-4.1-mini", openai), ("claude-sonnet-4-5", anthropic)):
        assert_hits_equal(*answers(model, [json.dumps(body).encode() for body in bodies], lasting))


def test_the_test_above_sees_hits(lasting: ResponseCache) -> None:
    body = b'{"choices":[{"message":{"role":"assistant","content":"\\ud83d\\ude00 4"},"finish_reason":"stop"}]}'
    first, second = answers("gpt-4.1-mini", [body] * 3, lasting)
    assert [response.local_cache_hit for response in first + second] == [False] * 3 + [True] * 3
    assert {response.completion for response in second} == {"😀 4"}
    assert {response.raw_body for response in second} == {body}


# Keys

objects = small.objects
parameters = st.builds(
    Parameters,
    model=st.sampled_from(["m", "n", ""]),
    endpoint=st.sampled_from(["", "https://a/v1", "https://b/v1"]),
    params=objects,
    tools=st.lists(objects, max_size=2),
    tool_choice=st.sampled_from([None, "", "auto", "none"]),
    output_schema=st.none() | objects,
    extra_body=objects,
    extra_headers=st.dictionaries(st.sampled_from(["a", "b", ""]), st.sampled_from(["", "a", "00"]), max_size=2),
)
requests = st.tuples(
    small.conversations,
    parameters,
    st.integers(0, 3) | st.sampled_from([10, 11, 100]),
    st.sampled_from(["a", "a\n", "b"]),
)


def key_of(conversation: Conversation, asked: Parameters, sample: int, namespace: str) -> bytes:
    return MemoryCache(namespace, scope="request").key(conversation, asked, sample=sample)


def shape(conversation: Conversation, asked: Parameters, sample: int, namespace: str) -> tuple[Any, ...]:
    """The same for equal requests, and written without the key's code."""
    fields = tuple(small.shape(getattr(asked, name)) for name in Parameters.__struct_fields__)
    return small.shape(conversation), fields, sample, namespace


@given(requests, requests)
@settings(deadline=None, max_examples=80)
def test_keys_of_requests_are_equal_exactly_when_the_requests_are(one: Any, other: Any) -> None:
    assert (key_of(*one) == key_of(*other)) == (shape(*one) == shape(*other))


@given(st.data(), small.conversations, parameters)
@settings(deadline=None, max_examples=60)
def test_any_change_of_the_parameters_changes_the_key(
    data: st.DataObject, conversation: Conversation, asked: Parameters
) -> None:
    name = data.draw(st.sampled_from(Parameters.__struct_fields__))
    changed = msgspec.structs.replace(asked, **{name: getattr(data.draw(parameters), name)})
    same = small.shape(getattr(changed, name)) == small.shape(getattr(asked, name))
    assert (key_of(conversation, asked, 0, "a") == key_of(conversation, changed, 0, "a")) == same


@given(some.conversations, parameters)
@settings(deadline=None, max_examples=20)
def test_scopes_samples_and_namespaces_keep_out_of_each_others_way(
    conversation: Conversation, asked: Parameters
) -> None:
    keys = {
        MemoryCache(namespace, scope=scope).key(conversation, asked, sample=sample)  # type: ignore[arg-type]
        for namespace in ("a", "b", "a\n")
        for scope in ("conversation", "request")
        for sample in (0, 1, 2, 10, 12, 21)
    }
    assert len(keys) == 3 * 6
    plain = MemoryCache("a")
    assert plain.key(conversation, asked) == plain.key(conversation, asked, sample=0)
    assert plain.key(conversation)[:32] == plain.key(conversation, asked)[:32]
    assert plain.key(conversation) != plain.key(conversation, asked)
    mapping = {
        DistributedDictCache({}, "a").key(conversation, asked),
        DistributedDictCache({}, "a", scope="request").key(conversation, asked),
    }
    assert sorted(map(len, mapping)) == [32, 32]


def picture(pixels: bytes, width: int) -> bytes:
    """A PNG of one row of pixels in shades of gray."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\x00" + pixels))
        + chunk(b"IEND", b"")
    )


@given(st.binary(min_size=1, max_size=400), st.data())
@settings(deadline=None, max_examples=30)
def test_one_pixel_makes_another_prompt_wherever_the_image_stands(pixels: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(pixels) - 1))
    other = bytearray(pixels)
    other[place] ^= data.draw(st.integers(1, 255))
    one, two = (picture(bytes(row), len(pixels)) for row in (pixels, other))
    base = Conversation.system("Look.")
    keys = {
        key
        for image in (one, two)
        for key in (
            base.user("?", image=image).digest,
            base.user("?", image=image).user("and?").digest,
            base.add(Message.user("?").with_file(image)).digest,
        )
    }
    assert len(keys) == 6
    assert base.user("?", image=base64.b64encode(two).decode()).digest == base.user("?", image=two).digest


PROGRAM = """
import sys
import msgspec
from lm_deluge.cache import MemoryCache
from lm_deluge.prompt import Conversation
from lm_deluge.request import Parameters

for log, asked, sample, namespace in msgspec.json.decode(sys.stdin.buffer.read()):
    cache = MemoryCache(namespace, scope="request")
    print(cache.key(Conversation.from_log(log), msgspec.convert(asked, Parameters), sample=sample).hex())
"""


@given(st.lists(requests, min_size=40, max_size=40))
@settings(deadline=None, max_examples=1, suppress_health_check=list(HealthCheck))
def test_keys_of_requests_are_the_same_in_processes_with_other_hash_seeds(given_requests: list[Any]) -> None:
    plain = [
        (conversation.to_log(), msgspec.to_builtins(asked), sample, namespace)
        for conversation, asked, sample, namespace in given_requests
    ]
    for seed in ("0", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=msgspec.json.encode(plain),
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            check=True,
        )
        assert done.stdout.decode().split() == [key_of(*request).hex() for request in given_requests]


def test_the_same_image_by_path_bytes_and_base64_is_one_request(tmp_path: Path) -> None:
    image = picture(bytes(range(64)), 64)
    (tmp_path / "a").write_bytes(image)
    given_as = [image, tmp_path / "a", str(tmp_path / "a"), base64.b64encode(image).decode()]
    asked = Parameters(model="m", params={"temperature": 0.5})
    assert len({key_of(Conversation.user("?", image=each), asked, 2, "a") for each in given_as}) == 1
