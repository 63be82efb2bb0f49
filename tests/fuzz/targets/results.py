"""A file of results that ``deluge run`` is to go on with: it is gone on with, or left as it is."""

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from lm_deluge.cli.results import Results, result_line
from lm_deluge.cli.rows import Row
from lm_deluge.errors import ConfigError
from lm_deluge.response import APIResponse

from .. import edits, samples
from ..using import use_response

_SETTINGS = "01234567"
REFUSED = APIResponse(is_error=True, error_message="no")


def target(data: bytes, tmp: Path) -> list[str]:
    (path := tmp / "out.jsonl").write_bytes(data)
    row = Row(index=2, line=3, digest="d2")
    try:
        with Results.open(path, _SETTINGS) as results:
            said = [f"{results.answered} {results.dropped_errors} {results.dropped_torn}"]
            kept = path.read_bytes()
            try:
                for sample in results.missing(row, 2):
                    results.write(row, result_line(row, samples.ANSWERS[0], sample=sample))
            except ConfigError as error:
                said.append(str(error))
    except ConfigError as error:
        assert path.read_bytes() == data, "a file that is not ours was changed"
        return [str(error)]
    after = path.read_bytes()
    assert after.startswith(kept), "answers that were there are gone"
    assert set(kept.splitlines()) <= set(data.splitlines()), "going on has changed lines"
    with Results.open(path, _SETTINGS) as results:
        assert not results.dropped_torn, "what was written is torn"
        assert not results.missing(row, 1) or said[1:], "what was written is missing"
    return [*said, *use_response(samples.ANSWERS[0])]


def cases() -> st.SearchStrategy[bytes]:
    lines: list[Any] = []
    for index in range(4):
        row = Row(index=index, line=index + 1, digest=f"d{index}", id=index, extra={"a": 1})
        line = result_line(row, REFUSED if index == 3 else samples.ANSWERS[index % 2], sample=0)
        lines.append({**line, "key": f"{_SETTINGS}-{row.digest}"})
    join = lambda tree: b"\n".join(map(msgspec.json.encode, tree)) + b"\n"  # noqa: E731
    files = edits.trees_like([lines, lines[:2]], join)
    return st.one_of(files, edits.edited(files), edits.bytes_like([join(lines)]))
