"""Small bundles whose lines name each other until they are gigabytes are measured before they are decoded."""

import gzip
import io
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lm_deluge.cache import record
from lm_deluge.cache.admin.archive import load
from lm_deluge.cache.admin.archive.bundle import Line, MediaLine, MessageLine, ParametersLine, PrefixLine, seal
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.prompt import Image, Message, ToolResult
from lm_deluge.prompt.parts import Text
from lm_deluge.request import Parameters

from ..cache.archive.making import bundle, entry, filled, resealed
from ..cache.helpers import answer, prompt

MEGABYTE = 1024 * 1024
LONG = "a" * MEGABYTE
PNG = b"\x89PNG\r\n\x1a\n" + bytes(MEGABYTE)

Add = Callable[[Line], str]


def image(name: str) -> Image:
    return Image(url=f"line:{name}", media_type="image/png")


def messages_by_name(add: Add) -> dict[str, Any]:
    return {"messages": [add(MessageLine(Message.user(LONG)))] * 1_000}


def messages_of_a_prefix(add: Add) -> dict[str, Any]:
    message = add(MessageLine(Message.user(LONG)))
    return {"before": add(PrefixLine([message] * 1_000))}


def prefixes_before_prefixes(add: Add) -> dict[str, Any]:
    message, before = add(MessageLine(Message.user(LONG))), None
    for _ in range(500):
        before = add(PrefixLine([message, message], before))
    return {"before": before}


def one_medium_in_many_parts(add: Add) -> dict[str, Any]:
    medium = image(add(MediaLine(PNG)))
    return {"messages": [msgspec.to_builtins(Message("user", [medium] * 1_000))]}


def one_medium_in_many_messages(add: Add) -> dict[str, Any]:
    medium = image(add(MediaLine(PNG)))
    return {"messages": [add(MessageLine(Message("user", [medium])))] * 1_000}


def one_medium_in_many_results(add: Add) -> dict[str, Any]:
    result = ToolResult("1", (Text("x"), *[image(add(MediaLine(PNG)))] * 100))
    return {"before": add(PrefixLine([Message("tool", [result])] * 10))}


def parameters_beside_messages(add: Add) -> dict[str, Any]:
    long = Parameters(model="m", params={"a": LONG * 5})
    return {"messages": [add(MessageLine(Message.user(LONG)))] * 5, "parameters": add(ParametersLine(long))}


BOMBS = [
    messages_by_name,
    messages_of_a_prefix,
    prefixes_before_prefixes,
    one_medium_in_many_parts,
    one_medium_in_many_messages,
    one_medium_in_many_results,
    parameters_beside_messages,
]


def bomb(names: Callable[[Add], dict[str, Any]]) -> bytes:
    """A bundle of two good entries and, before them, one whose request names lines as ``names`` says."""
    header, first, second, end = bundle(filled(entry(prompt("a"), answer("a")), entry(prompt("z"), answer("z"))))
    shared: dict[str, bytes] = {}

    def add(line: Line) -> str:
        name, data = seal(line)
        shared[name] = data
        return name

    request = names(add)
    bad = resealed(first, lambda line: {**line, "request": request})
    return b"".join([header, *shared.values(), bad, first, second, end])


@pytest.mark.parametrize("names", BOMBS)
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_a_request_names_is_counted_before_it_is_decoded(
    names: Callable[[Add], dict[str, Any]], dry_run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_MOST_BYTES", 8 * MEGABYTE)
    source = io.BytesIO(bomb(names))
    store = MemoryStore()
    tracemalloc.start()
    report = load(store, source, dry_run=dry_run)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (report.added, report.refused) == (2, 1)
    assert "more than any prompt has" in report.left[0].reason
    assert len(store) == (0 if dry_run else 2)
    assert peak < 40 * MEGABYTE


def test_what_is_below_the_limit_is_taken() -> None:
    """And what is named often and short is put together in a time that does not grow with its square."""

    def names(add: Add) -> dict[str, Any]:
        return {"before": add(PrefixLine([add(MessageLine(Message.user("ab")))] * 40_000))}

    report = load(MemoryStore(), io.BytesIO(bomb(names)))
    assert "its key is not that of its request" in report.left[0].reason, "it was put together"

    def inline(add: Add) -> dict[str, Any]:
        return {"messages": [add(MessageLine(Message.user("ab")))] * 40_000}

    report = load(MemoryStore(), io.BytesIO(bomb(inline)))
    assert "its key is not that of its request" in report.left[0].reason


def test_a_shared_line_that_names_a_missing_one_is_left_out() -> None:
    """What it stands for cannot be counted."""

    def names(add: Add) -> dict[str, Any]:
        return {"before": add(PrefixLine(["ab" * 32]))}

    report = load(MemoryStore(), io.BytesIO(bomb(names)))
    assert (report.added, report.refused) == (2, 2)
    assert "missing before it" in report.left[0].reason


@pytest.mark.parametrize("packed", [False, True])
def test_the_command_line_leaves_it_out(packed: bool, tmp_path: Path) -> None:
    """Of its real limit, 256 MB: 300 MB here, from a file and from standard input."""

    def names(add: Add) -> dict[str, Any]:
        return {"messages": [add(MessageLine(Message.user(LONG)))] * 300}

    plain = bomb(names)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(plain, 1))
    command = [sys.executable, "-m", "lm_deluge", "cache", "import", "new.db", "bomb.gz" if packed else "-"]
    done = subprocess.run(
        [*command, "--create", "--dry-run"],
        input=None if packed else plain,
        capture_output=True,
        cwd=tmp_path,
        timeout=30,
        check=False,
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 1
    assert "2 entries would be added" in said
    assert "more than any prompt has" in said
