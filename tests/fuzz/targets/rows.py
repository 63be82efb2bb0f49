"""Rows of ``deluge run``, however they are cut, and the whole command on them, with a cache and nobody to ask.

One bad row is one error in its place: all others are answered, and each row has one line in the results.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from lm_deluge.cache import SqliteCache
from lm_deluge.cli import main
from lm_deluge.cli.prompts import conversation_of
from lm_deluge.cli.rows import RowReader
from lm_deluge.prompt import Conversation

from .. import edits, samples
from ..using import use_conversation

SECONDS = 20.0
_QUESTIONS = samples.questions(3)


def target(data: bytes, tmp: Path) -> list[str]:
    said: list[str] = []
    whole = RowReader()
    rows = [*whole.feed(data), *whole.feed(b"")]
    cut = RowReader()
    others = [row for at in range(0, len(data), 13) for row in cut.feed(data[at : at + 13])] + list(cut.feed(b""))
    assert [row.digest for row in rows] == [row.digest for row in others], "rows differ by how the file is read"
    for row in rows:
        prompt = conversation_of(row)
        said += [prompt] if isinstance(prompt, str) else use_conversation(prompt)
    said += _commands(data, tmp, len(rows))
    return said


def _commands(data: bytes, tmp: Path, rows: int) -> list[str]:
    (source := tmp / "rows.jsonl").write_bytes(data)
    with SqliteCache(tmp / "c.db") as cache:
        for text in _QUESTIONS:
            cache.put(Conversation.user(text), samples.ANSWERS[0])
    out = tmp / "out.jsonl"
    code = command(
        "run", source, "-m", "gpt-4.1-mini", "-o", out, "--cache", tmp / "c.db", "--offline", "--progress", "none"
    )
    assert code in (0, 1), f"run ends with exit status {code}"
    lines = out.read_bytes().splitlines() if out.exists() else []
    assert len(lines) == rows, "a row has no line in the results, or several"
    for line in lines:
        msgspec.json.decode(line)
    for again in (("simulate", source, "-m", "claude-haiku-4-5"), ("cache", "explain", tmp / "c.db", source)):
        code = command(*again)
        assert code in (0, 1, 2), f"{again[0]} ends with exit status {code}"
    return [line.decode("utf-8", "replace") for line in lines]


def command(*arguments: object) -> int:
    """The exit code of a command, run in this process."""
    before, sys.argv = sys.argv, ["deluge", *map(str, arguments)]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    finally:
        sys.argv = before


def cases() -> st.SearchStrategy[bytes]:
    rows: list[Any] = [
        *_QUESTIONS,
        {"id": 1, "prompt": _QUESTIONS[0], "more": {"a": [1]}},
        {"question": _QUESTIONS[1], "answer": "4", "tools": [{"name": "f"}]},
        {
            "id": "x",
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "t"}]},
            ],
        },
        [{"role": "user", "content": _QUESTIONS[2]}],
    ]
    join = lambda tree: b"\n".join(map(msgspec.json.encode, tree)) + b"\n"  # noqa: E731
    lines = edits.trees_like([rows, rows[:2], rows[3:]], join)
    return st.one_of(lines, edits.edited(lines), edits.bytes_like([join(rows[2:5])]))
