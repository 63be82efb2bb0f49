"""A judge that cannot say no is none: what OpenAI's OpenAPI document has to refuse, and what it has to let pass."""

import pytest

from .openapi_judge import NEWER, NEWER_VALUES, judge_by_document, validator

USER = {"role": "user", "content": "Hello"}
BODY = {"model": "gpt-4.1-mini", "messages": [USER]}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        {
            **BODY,
            "messages": [{"role": "system", "content": "Be brief."}, USER, {"role": "assistant", "content": "Hi"}],
        },
        {**BODY, "messages": [USER, {"role": "assistant", "tool_calls": [CALL]}]},
        {**BODY, "messages": [{"role": "tool", "tool_call_id": "c1", "content": "ok"}], "tools": [TOOL]},
        {**BODY, "prompt_cache_key": "key", "stream": True, "stream_options": {"include_usage": True}},
        {**BODY, "prompt_cache_options": {"mode": "explicit"}},
    ],
)
def test_what_is_right_passes(body):
    judge_by_document(body)


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"model": None},
        {"messages": [{"role": "nobody", "content": "Hello"}]},
        {"messages": [{**USER, "cache_control": {"type": "ephemeral"}}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello", "mark": True}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": "x"}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "type": "tool"}]}]},
        {"messages": [{"role": "tool", "content": "ok"}]},
        {"tools": [{**TOOL, "cache_control": {"type": "ephemeral"}}]},
        {"tools": [{"type": "function", "function": {"parameters": {}}}]},
        {"temperature": 3},
        {"top_logprobs": 21},
        {"random_seed": 1},
        {"stream_options": {"include_usage": "yes"}},
        {"response_format": {"type": "json_schema"}},
        {"prompt_cache_retention": "12h"},
    ],
)
def test_what_is_wrong_is_refused(wrong):
    with pytest.raises(AssertionError):
        judge_by_document({**BODY, **wrong})


@pytest.mark.parametrize("field", sorted(NEWER))
def test_the_exceptions_are_needed(field):
    """Once the document knows a field, it can judge it too."""
    part = {"type": "text", "text": "Hello", field: {"mode": "explicit"}}
    assert not validator().is_valid({**BODY, "messages": [{"role": "user", "content": [part]}], field: {}})


@pytest.mark.parametrize(("name", "value"), sorted(NEWER_VALUES))
def test_the_values_that_are_excepted_are_unknown(name, value):
    assert not validator().is_valid({**BODY, name: value})
