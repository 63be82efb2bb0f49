"""Plain data name no local file: a log from a queue, a request or a bug report must not decide what is sent."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lm_deluge import APIResponse, Conversation, Message
from lm_deluge.errors import PromptError
from lm_deluge.prompt import File, Image

CALL = {"role": "assistant", "parts": [{"type": "tool_call", "id": "a", "name": "f", "arguments": {}}]}


def messages(kind: str, path: str) -> list[dict[str, Any]]:
    medium = {"type": kind, "path": path, "media_type": "image/png" if kind == "image" else "text/plain"}
    return [{"role": "user", "parts": [{"type": "text", "text": "hi"}, medium]}]


def in_a_result(path: str) -> list[dict[str, Any]]:
    result = {"type": "tool_result", "tool_call_id": "a", "result": [{"type": "image", "path": path}]}
    return [CALL, {"role": "tool", "parts": [result]}]


@pytest.fixture
def odd_paths(tmp_path: Path) -> list[str]:
    """Of files that are there and are not, and of a pipe, which would be waited for."""
    (tmp_path / "secret.txt").write_text("under the stone")
    os.mkfifo(tmp_path / "fifo")
    return [
        str(tmp_path / "secret.txt"),
        str(tmp_path / "fifo"),
        "relative.txt",
        "~/.ssh/id_rsa",
        "/dev/stdin",
        "",
        "\0",
    ]


def test_a_log_that_names_a_path_is_refused(odd_paths: list[str]) -> None:
    for path in odd_paths:
        for log in (messages("file", path), messages("image", path), in_a_result(path)):
            with pytest.raises(PromptError, match=r"local path.*allow_paths=True"):
                Conversation.from_log({"messages": log})


def test_data_beside_a_path_are_no_way_around(tmp_path: Path) -> None:
    log = messages("file", str(tmp_path))
    log[0]["parts"][1]["data"] = "aGk="
    with pytest.raises(PromptError):
        Conversation.from_log({"messages": log})


def test_an_answer_that_names_a_path_is_refused(odd_paths: list[str]) -> None:
    for path in odd_paths:
        for log in (messages("file", path), messages("image", path), in_a_result(path)):
            with pytest.raises(PromptError, match="local path"):
                APIResponse.from_dict({"content": {**log[-1]}})


def test_openai_style_lists_name_no_path(odd_paths: list[str]) -> None:
    for path in [*odd_paths, "file:///etc/passwd", "FILE:/etc/passwd"]:
        for part in (
            {"type": "image_url", "image_url": {"url": path}},
            {"type": "file", "file": {"file_data": path, "filename": "x.pdf"}},
        ):
            for content in (
                [{"role": "user", "content": [part]}],
                [{"role": "tool", "tool_call_id": "a", "content": [part]}],
            ):
                with pytest.raises(PromptError):
                    Conversation.from_openai_chat(content)


def test_a_log_of_ones_own_may_name_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    log = {"messages": messages("file", str(tmp_path / "a.txt"))}
    conversation = Conversation.from_log(log, allow_paths=True)
    assert conversation.messages[0].media == [File(path=str(tmp_path / "a.txt"), media_type="text/plain")]
    loaded = conversation.load()
    assert Conversation.from_log(json.loads(json.dumps(loaded.to_log()))) == loaded, "what is loaded names none"


def test_code_takes_paths_without_being_asked(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    assert Message.user("hi").with_file(tmp_path / "a.txt").media[0].path == str(tmp_path / "a.txt")
    assert Image.of("a.png").path == "a.png"
