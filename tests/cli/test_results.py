import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_deluge.cli.results import Results, result_line
from lm_deluge.cli.rows import Row, RowReader
from lm_deluge.errors import ConfigError
from lm_deluge.prompt import Message, Text, Thinking, ToolCall
from lm_deluge.response import APIResponse
from lm_deluge.usage import Usage

ANSWER = APIResponse(content=Message.ai("4"), model_internal="m", usage=Usage(input_tokens=3), cost=0.1)
REFUSED = APIResponse(is_error=True, error_message="Line 1 is not JSON")
ERROR = APIResponse(model_internal="m", is_error=True, error_message="boom")


def rows(*prompts: str) -> list[Row]:
    return list(RowReader().feed("".join(json.dumps(prompt) + "\n" for prompt in prompts).encode()))


ROWS = rows("a", "b", "c", "a")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def write(path: Path, *pairs: tuple[Row, APIResponse], settings: str = "s1") -> None:
    with Results.open(path, settings) as results:
        for row, response in pairs:
            results.write(row, result_line(row, response))


def missing(path: Path, *, settings: str = "s1") -> list[int]:
    with Results.open(path, settings) as results:
        return [row.index for row in ROWS if results.missing(row)]


def test_answered_rows_are_known_again_and_duplicates_are_rows_of_their_own(path: Path) -> None:
    write(path, (ROWS[2], ANSWER), (ROWS[0], ANSWER))
    assert missing(path) == [1, 3]


def test_each_line_is_in_the_file_when_write_returns(path: Path) -> None:
    with Results.open(path, "s1") as results:
        for number, row in enumerate(ROWS, 1):
            results.write(row, result_line(row, ANSWER))
            assert path.read_bytes().count(b"\n") == number


def test_wherever_the_last_line_is_torn_only_that_row_is_asked_again(path: Path) -> None:
    write(path, (ROWS[0], ANSWER), (ROWS[1], ANSWER))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first + 1, len(whole)):
        path.write_bytes(whole[:end])
        with Results.open(path, "s1") as results:
            assert results.dropped_torn
            assert [row.index for row in ROWS if results.missing(row)] == [1, 2, 3]
            results.write(ROWS[1], result_line(ROWS[1], ANSWER))
        assert path.read_bytes() == whole


def test_lines_of_errors_are_taken_out_and_asked_again(path: Path) -> None:
    write(path, (ROWS[0], ANSWER), (ROWS[1], ERROR), (ROWS[2], ANSWER), (ROWS[3], ERROR))
    path.chmod(0o640)
    with path.open("ab") as file:
        file.write(b'{"index":7,"comp')
    with Results.open(path, "s1") as results:
        assert (results.answered, results.dropped_errors, results.dropped_torn) == (2, 2, True)
        results.write(ROWS[1], result_line(ROWS[1], ANSWER))
    assert [json.loads(line)["index"] for line in path.read_text().splitlines()] == [0, 2, 1]
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(path.parent.iterdir()) == [path]


def test_an_error_of_other_settings_does_not_stand_in_the_way(path: Path) -> None:
    write(path, (ROWS[0], ERROR), settings="s0")
    assert missing(path) == [0, 1, 2, 3]


def test_nothing_is_lost_when_the_rewriting_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, (ROWS[0], ANSWER), (ROWS[1], ERROR))
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            Results.open(path, "s1")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    assert missing(path) == [1, 2, 3], "the lock was not given back"


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.jsonl"
    path.symlink_to(target)
    write(path, (ROWS[0], ANSWER), (ROWS[1], ERROR))
    assert missing(path) == [1, 2, 3]
    assert path.is_symlink()
    assert target.read_bytes().count(b"\n") == 1


@pytest.mark.parametrize(
    "content",
    [b'{"question": "q"}\n', b"some notes\n", b"notes without a newline", b'{"index": "0"}\n', b"\xff\xfe\n", b"\n"],
)
def test_a_file_of_somebody_else_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"Line 1 of .* is not a result of `deluge run`"):
        Results.open(path, "s1")
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("rows_now", "settings", "message"),
    [
        (rows("a", "B"), "s1", "Line 2 of the prompts has changed"),
        (rows("new", "a", "b"), "s1", "Line 1 of the prompts has changed"),
        (rows("a", "b"), "s2", "another model or of other settings .line 1."),
    ],
)
def test_results_of_something_else_are_noticed(path: Path, rows_now: list[Row], settings: str, message: str) -> None:
    write(path, (ROWS[0], ANSWER), (ROWS[1], ANSWER))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=message) as caught, Results.open(path, settings) as results:  # noqa: PT012
        for row in rows_now:
            results.missing(row)
    assert "--overwrite" in str(caught.value)
    assert path.read_bytes() == before


def test_a_row_that_is_answered_twice_is_noticed(path: Path) -> None:
    write(path, (ROWS[0], ANSWER))
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ConfigError, match=r"answers row 0 twice \(line 2\)"):
        Results.open(path, "s1")


def test_each_sample_of_a_row_is_an_answer_of_its_own(path: Path) -> None:
    with Results.open(path, "s1") as results:
        for row, sample in ((ROWS[0], 0), (ROWS[0], 2), (ROWS[1], 1)):
            results.write(row, result_line(row, ANSWER, sample=sample))
        results.write(ROWS[1], result_line(ROWS[1], ERROR, sample=0))
    with Results.open(path, "s1") as results:
        assert (results.answered, results.dropped_errors) == (3, 1)
        assert [results.missing(row, 3) for row in ROWS[:3]] == [[1], [0, 2], [0, 1, 2]]
        assert [results.rows_from(index) for index in (0, 1, 2)] == [2, 1, 0]
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ConfigError, match=r"answers row 0 twice \(line 4\)"):
        Results.open(path, "s1")


def test_a_file_without_samples_holds_the_first_of_each(path: Path) -> None:
    write(path, (ROWS[0], ANSWER))
    with Results.open(path, "s1") as results:
        assert results.missing(ROWS[0], 3) == [1, 2]


def test_overwriting_starts_from_scratch(path: Path) -> None:
    path.write_bytes(b"some notes\n")
    with Results.open(path, "s1", overwrite=True) as results:
        assert results.answered == 0
        results.write(ROWS[0], result_line(ROWS[0], ANSWER))
    assert path.read_bytes().count(b"\n") == 1


def test_two_runs_do_not_write_to_one_file(path: Path) -> None:
    with Results.open(path, "s1") as first:
        with pytest.raises(ConfigError, match="Another run is writing"):
            Results.open(path, "s1", overwrite=True)
        first.write(ROWS[0], result_line(ROWS[0], ERROR))
    with Results.open(path, "s1"), pytest.raises(ConfigError, match="Another run is writing"):
        Results.open(path, "s1")  # the lock went over to the rewritten file


# Lines


def test_a_line_has_the_same_columns_with_and_without_an_answer() -> None:
    answered, failed = result_line(ROWS[0], ANSWER), result_line(ROWS[0], ERROR)
    assert list(answered) == list(failed) == list(result_line(ROWS[0], REFUSED))
    assert answered == {
        "index": 0,
        "id": None,
        "completion": "4",
        "error": None,
        "model": "m",
        "finish_reason": None,
        "usage": {
            "input_tokens": 3,
            "output_tokens": 0,
            "cache_read_tokens": 0,
            "cache_write_tokens": 0,
            "cache_write_1h_tokens": 0,
            "reasoning_tokens": 0,
        },
        "cost": 0.1,
        "cost_avoided": 0.0,
        "local_cache_hit": False,
    }
    assert failed["error"] == "boom"
    more = result_line(ROWS[0], ANSWER, sample=2, with_prompt=True)
    assert list(more)[:4] == ["index", "sample", "id", "prompt"]
    assert (more["sample"], more["prompt"]) == (2, "a")


def test_what_else_there_is_is_passed_through() -> None:
    (row,) = RowReader().feed(b'{"id": "x", "question": "q", "answer": "42", "usage": "theirs"}\n')
    parts = (Thinking("hm"), Text("yes"), ToolCall("c1", "add", {"a": 1}))
    line: dict[str, Any] = result_line(
        row, APIResponse(content=Message("assistant", parts), cost=8.159999999999999e-05)
    )
    assert line["id"] == "x"
    assert line["input"] == {"answer": "42", "usage": "theirs"}
    assert line["thinking"] == "hm"
    assert line["tool_calls"] == [{"id": "c1", "name": "add", "arguments": {"a": 1}}]
    assert line["cost"] == 8.16e-05


@pytest.fixture(autouse=True)
def no_leftovers(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.glob(".*"))
