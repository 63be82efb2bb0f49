"""Good values to begin with: prompts, answers, and what providers send, made by the project's own writers.

The questions are from MT-bench (lm-sys/FastChat, Apache License 2.0), as in ``tests/data``.
"""

from pathlib import Path
from typing import Any

import msgspec

from lm_deluge.cache.entry import Entry
from lm_deluge.cache.runs import Run
from lm_deluge.prompt import Conversation, File, Image, Message, ProviderBlock, Text, Thinking, ToolCall, ToolResult
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse
from lm_deluge.usage import Usage

from ..cache.archive.making import entry
from .judge import SECRETS

__all__ = ["ANSWERS", "CHUNKS", "COMPLETION", "EVENTS", "KEY", "MESSAGE", "PROMPTS", "RUN", "entries", "questions"]

KEY = bytes(range(32))
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
PDF = b"%PDF-1.7\n" + bytes(40)


def questions(count: int = 6) -> list[str]:
    """Real questions."""
    path = Path(__file__).parents[1] / "data" / "mt_bench_question.jsonl"
    lines = path.read_bytes().splitlines()[:count]
    return [msgspec.json.decode(line)["turns"][0] for line in lines]


PROMPTS = [
    Conversation.user(questions()[0]),
    Conversation.system("long " * 400).user(questions()[1], image=PNG),
    Conversation.system("Be exact.").user("What is in it?", file=PDF).ai("A page.").user("And then?"),
    Conversation.user("Look it up.")
    .add(Message("assistant", (Thinking("hm", "c2ln"), ToolCall("call_1", "look", {"what": [1, {"a": None}]}))))
    .with_tool_result("call_1", [Text("here"), Image(data=PNG)])
    .add(Message("assistant", (ProviderBlock("anthropic", {"type": "server_tool_use", "id": "x"}), Text("Done.")))),
    Conversation.user("a").add(
        Message("user", (File(url="https://example.com/a.pdf"), ToolResult("call_9", "x", is_error=True)))
    ),
]
MANY = Conversation(tuple(Message.user(f"{number} " * 90) for number in range(12)))

PARAMETERS = Parameters(
    model="gpt-4.1-mini",
    endpoint="https://api.example.com/v1",
    params={"temperature": 0.5},
    tools=[
        {
            "name": "look",
            "description": "looks",
            "parameters": {"type": "object", "properties": {"what": {"type": "array"}}},
        }
    ],
)

ANSWERS = [
    APIResponse(model_internal="gpt-4.1-mini", content=Message.ai("answer"), finish_reason="stop", status_code=200),
    APIResponse(
        model_internal="claude-haiku-4-5",
        model_external="claude-haiku-4-5-20251001",
        content=Message(
            "assistant", (Thinking("hm", "c2ln"), Text("yes"), ToolCall("t1", "look", {"a": [1, 2.5, "x"]}))
        ),
        usage=Usage(input_tokens=11, output_tokens=7, cache_read_tokens=5, cache_write_tokens=3),
        cost=0.25,
        cost_avoided=0.5,
        finish_reason="tool_calls",
        logprobs=[{"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1.5}]}],
        status_code=200,
        response_id="msg_1",
        raw_body=b'{"id":"msg_1","content":[{"type":"text","text":"yes"}]}',
        sample=1,
    ),
]

RUN = Run(id=7, started=1_800_000_000.0, name="night", tags=("a",), models=("gpt-4.1-mini",))


def entries() -> list[Entry]:
    """Entries as a cache stores them."""
    prompts = [*PROMPTS[:4], MANY, MANY.user("one more")]
    return [
        entry(prompt, ANSWERS[number % 2], parameters=PARAMETERS if number % 3 else None, sample=number % 2, run=RUN.id)
        for number, prompt in enumerate(prompts)
    ]


# What providers answer

COMPLETION: dict[str, Any] = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4.1-mini-2025-04-14",
    "service_tier": "default",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "ok",
                "reasoning_content": "hm",
                "refusal": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":[1]}'}}
                ],
            },
            "finish_reason": "stop",
            "logprobs": {"content": [{"token": "ok", "logprob": -0.1, "top_logprobs": []}]},
        }
    ],
    "usage": {
        "prompt_tokens": 30,
        "completion_tokens": 5,
        "total_tokens": 35,
        "prompt_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    },
}
PARTED: dict[str, Any] = {
    "choices": [
        {
            "message": {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "ok"},
                    {"type": "reference", "reference_ids": [1]},
                ]
            },
            "finish_reason": "model_length",
        }
    ]
}

MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eHg="},
        {
            "type": "text",
            "text": "ok",
            "citations": [{"type": "char_location", "cited_text": "x", "start_char_index": 0}],
        },
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": [1]}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "s1",
            "content": [{"type": "web_search_result", "url": "https://a.b"}],
        },
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "output_tokens": 2,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 3,
        "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 1},
        "service_tier": "standard",
        "output_tokens_details": {"thinking_tokens": 1},
    },
    "diagnostics": {"cache_miss_reason": {"type": "tools_changed"}},
}


def _chunk(delta: dict[str, Any], finish: str | None = None, **top: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **top}


def _call(**fields: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, **fields}]}


CHUNKS: list[dict[str, Any]] = [
    _chunk({"role": "assistant", "content": ""}),
    _chunk({"reasoning_content": "hm"}),
    _chunk({"content": "o"}, logprobs=None),
    _chunk({"content": [{"type": "text", "text": "k"}]}),
    _chunk(_call(id="call_1", type="function", function={"name": "look", "arguments": ""})),
    _chunk(_call(function={"arguments": '{"a":'})),
    _chunk(_call(function={"arguments": "[1]}"})),
    _chunk({}, "tool_calls"),
    {"id": "c1", "choices": [], "usage": COMPLETION["usage"]},
]

EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "ping"},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "ok"}},
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "[1]}"}},
    {"type": "content_block_stop", "index": 2},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 9},
    },
    {"type": "message_stop"},
]

_KEY = SECRETS["key"]
_TEXT = f"Incorrect API key provided: {_KEY}."
ERRORS: list[Any] = [
    {"error": {"message": _TEXT, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}},
    {"type": "error", "error": {"type": "authentication_error", "message": _TEXT}, "request_id": "req_1"},
    {"error": {"message": "bad", "type": _KEY, "code": _KEY}},
    {"error": _TEXT},
    {"message": _TEXT},
    {"detail": [{"loc": ["header", "authorization"], "msg": f"Bearer {_KEY}"}]},
    [{"error": {"code": 400, "message": _TEXT, "status": "INVALID_ARGUMENT"}}],
    {"choices": [{"error": {"message": _TEXT, "code": 502}}]},
    {
        "error": {
            "message": f"denied: {{'x-gateway-password': '{SECRETS['header']}', 'cookie': 'id={SECRETS['cookie']}'}}"
        }
    },
    {"error": {"message": "x" * 480 + " " + _KEY}},
    {"error": {"message": "a", "details": {"error_code": _KEY}, "metadata": {"raw": _TEXT}}},
]
