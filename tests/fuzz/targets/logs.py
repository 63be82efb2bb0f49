"""Logged conversations and responses that come from elsewhere: ``Conversation.from_log``, ``APIResponse.from_dict``."""

import json
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from lm_deluge import APIResponse, Conversation
from lm_deluge.errors import PromptError

from .. import edits, samples
from ..using import use_conversation, use_response


def target(data: bytes, tmp: Path) -> list[str]:
    try:
        payload = json.loads(data)  # what people do with a log before they hand it in
    except (ValueError, RecursionError):
        return []
    if not isinstance(payload, dict):
        return []
    said: list[str] = []
    try:
        said += use_conversation(Conversation.from_log(payload))
    except PromptError as error:
        said.append(str(error))
    try:
        said += use_response(APIResponse.from_dict(payload))
    except (msgspec.ValidationError, PromptError) as error:  # both are documented
        said.append(str(error))
    return said


def cases() -> st.SearchStrategy[bytes]:
    logs: list[Any] = [msgspec.json.decode(msgspec.json.encode(prompt.to_log())) for prompt in samples.PROMPTS]
    logs.append(
        {"messages": [{"role": "user", "parts": [{"type": "file", "path": "secret.txt", "media_type": "text/plain"}]}]}
    )
    answers = [msgspec.json.decode(msgspec.json.encode(answer.to_dict())) for answer in samples.ANSWERS]
    logged = edits.trees_like([*logs, *answers], msgspec.json.encode)
    return st.one_of(logged, logged, edits.edited(logged))
