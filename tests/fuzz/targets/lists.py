"""OpenAI-style lists of messages, as datasets and other programs have them."""

import json
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from lm_deluge.errors import LMDelugeError
from lm_deluge.prompt import as_conversation, as_prompts

from .. import edits, samples
from ..using import use_conversation

_LISTS: list[Any] = [
    [{"role": "system", "content": "Be exact."}, {"role": "user", "content": samples.questions()[0]}],
    [
        {"role": "developer", "content": [{"type": "text", "text": "a"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "4"},
        {"role": "tool", "tool_call_id": "d", "content": [{"type": "text", "text": "5"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "refusal": "no"},
    ],
]


def target(data: bytes, tmp: Path) -> list[str]:
    try:
        payload = json.loads(data)
    except (ValueError, RecursionError):
        return []
    said = []
    try:
        prompts = list(as_prompts(payload))
    except TypeError as error:  # documented for what is no batch
        prompts = []
        said.append(str(error))
    for prompt in [payload, *prompts]:
        try:
            said += use_conversation(as_conversation(prompt))
        except LMDelugeError as error:
            said.append(str(error))
    return said


def cases() -> st.SearchStrategy[bytes]:
    lists = edits.trees_like(_LISTS, msgspec.json.encode, most=4)
    return st.one_of(lists, lists, edits.edited(lists))
