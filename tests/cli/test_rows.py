import asyncio
import json
import os
from pathlib import Path

import pytest

from lm_deluge.cli.rows import Row, RowReader, read_blocks


def read(data: bytes, *, block: int = 1 << 16, field: str | None = None, limit: int | None = None) -> list[Row]:
    reader = RowReader(field=field, limit=limit)
    blocks = [data[start : start + block] for start in range(0, len(data), block)]
    return [row for part in [*blocks, b""] for row in reader.feed(part)]


LINES = (
    '"plain"\n\n  {"id": "a", "prompt": "p", "label": 3}  \r\n'
    '{"messages": [{"role": "user", "content": "hé"}]}\n[{"role": "user", "content": "l"}]\n'
    '{"question": "q", "answer": "42"}\n"no newline"'
).encode()


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_rows_do_not_depend_on_how_the_input_is_cut(block: int) -> None:
    rows = read(LINES, block=block)
    assert rows == read(LINES)
    assert [(row.index, row.line, row.id, row.prompt, row.extra) for row in rows] == [
        (0, 1, None, "plain", {}),
        (1, 3, "a", "p", {"label": 3}),
        (2, 4, None, [{"role": "user", "content": "hé"}], {}),
        (3, 5, None, [{"role": "user", "content": "l"}], {}),
        (4, 6, None, "q", {"answer": "42"}),
        (5, 7, None, "no newline", {}),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("not json", "Line 1 is not JSON"),
        ("12", "Line 1 is neither a string, nor a list of messages, nor an object."),
        ("null", "Line 1 is neither a string, nor a list of messages, nor an object."),
        ("{}", "Line 1 has no prompt: looked for prompt, messages, question, found nothing."),
        ('{"text": "a"}', "found text."),
        ('{"prompt": 3}', "Line 1 has a prompt of type int; text or a list of messages is needed."),
        ('{"prompt": "a", "question": "b"}', "Line 1 has the fields prompt and question; name the one to use"),
        ('"\\ud800"', "Line 1 "),
        ('"\xff"', "Line 1 is not JSON"),
    ],
)
def test_a_line_that_cannot_be_asked_says_why(line: str, problem: str) -> None:
    (row,) = read(line.encode("latin-1"))
    assert row.prompt is None
    assert row.problem is not None
    assert problem in row.problem


def test_a_bad_line_keeps_its_id_and_its_place() -> None:
    bad, good = read(b'{"id": 7, "text": "a"}\n"b"\n')
    assert (bad.id, bad.index, good.index) == (7, 0, 1)


def test_a_field_can_be_named() -> None:
    (row,) = read(b'{"prompt": "a", "text": "b"}', field="text")
    assert (row.prompt, row.extra) == ("b", {"prompt": "a"})


def test_the_digest_is_that_of_the_prompt_and_its_id() -> None:
    def digest(value: object) -> str:
        (row,) = read(json.dumps(value).encode())
        return row.digest

    base = digest({"id": 1, "prompt": "a", "label": 1})
    assert base == digest({"label": 2, "prompt": "a", "id": 1})
    assert len({base, digest({"id": 2, "prompt": "a"}), digest({"id": 1, "prompt": "b"}), digest("a")}) == 4


def test_no_more_rows_are_read_than_asked_for() -> None:
    assert [row.index for row in read(b'"a"\n\n"b"\n"c"\n', limit=2)] == [0, 1]
    reader = RowReader(limit=1)
    assert [row.prompt for row in reader.feed(b'"a"\n"b"\n')] == ["a"]
    assert reader.full


def test_a_silent_producer_holds_up_neither_rows_nor_the_end() -> None:
    """What is there is handed over at once, and leaving does not wait for a pipe that nobody writes to."""
    reading, writing = os.pipe()

    async def main() -> bytes:
        blocks = read_blocks(reading)
        os.write(writing, b'"first"\n')
        try:
            return await anext(blocks)
        finally:
            pending = asyncio.ensure_future(anext(blocks))
            await asyncio.sleep(0)
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)

    try:
        assert asyncio.run(main()) == b'"first"\n'
    finally:
        os.close(writing)
        os.close(reading)


def test_a_file_is_read_to_its_end_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"x" * 200_000)

    async def main() -> list[bytes]:
        return [block async for block in read_blocks(path)]

    blocks = asyncio.run(main())
    assert b"".join(blocks) == path.read_bytes()
    assert blocks[-1] == b""


def test_a_failing_read_is_raised(tmp_path: Path) -> None:
    async def main() -> None:
        async for _ in read_blocks(tmp_path):
            pass

    with pytest.raises(IsADirectoryError):
        asyncio.run(main())
