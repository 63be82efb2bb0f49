"""What ``deluge run`` makes of rows as people have them."""

import json
from collections.abc import Callable
from pathlib import Path

from lm_deluge.testing import Emulator

from .conftest import Deluge, read_rows

Write = Callable[..., Path]


def test_a_list_of_messages_is_a_prompt(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    write_prompts([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2+2?"}])
    assert deluge.inside("prompts.jsonl", "-o", "out.jsonl").returncode == 0
    (request,) = emulator.requests
    assert [message["content"] for message in json.loads(request.body)["messages"]] == ["Be brief.", "What is 2+2?"]
    (row,) = read_rows(tmp_path / "out.jsonl")
    assert row["error"] is None


def test_tools_in_rows_are_said_not_to_be_sent_once(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    messages = [{"role": "user", "content": "a"}]
    write_prompts({"messages": messages, "tools": []}, *[{"messages": messages, "tools": [tool]}] * 2)
    note = (
        'Rows have a field "tools", which is passed through and not sent; --tools FILE sends tools with every prompt.\n'
    )
    done = deluge.inside("prompts.jsonl", "-o", "out.jsonl")
    assert done.stderr.count(note) == 1
    assert [row["input"]["tools"] for row in read_rows(tmp_path / "out.jsonl")] == [[], [tool], [tool]]
    assert not any("tools" in json.loads(request.body) for request in emulator.requests)
    assert note not in deluge.inside("prompts.jsonl", "-o", "out.jsonl").stderr, "nothing is asked"
    assert note not in deluge.inside("prompts.jsonl", "-o", "first.jsonl", "--limit", "1").stderr
    (tmp_path / "tools.json").write_text(json.dumps([tool]))
    assert note not in deluge.inside("prompts.jsonl", "-o", "given.jsonl", "--tools", "tools.json").stderr
    simulation = ("simulate", "prompts.jsonl", "-m", "gpt-4.1-mini")
    assert deluge.command(*simulation).stderr == note
    assert deluge.command(*simulation, "--tools", "tools.json").stderr == ""
