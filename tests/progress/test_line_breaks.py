"""Sentences on a real terminal, and where there is none."""

import fcntl
import io
import os
import pty
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lm_deluge.progress._plain import write_line
from lm_deluge.progress.line_breaks import wrapped

LONG = "Rows have a field that is passed through and not sent; --max-tokens-per-minute 100000 holds it back."
PATH = "https://example.com/" + "a" * 50


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Makes standard error a terminal of some columns."""
    screen, slave = pty.openpty()
    monkeypatch.delenv("COLUMNS", raising=False)
    with os.fdopen(slave, "w") as stream:

        def become(columns: int) -> None:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            monkeypatch.setattr(sys, "stderr", stream)

        yield become
        monkeypatch.undo()
    os.close(screen)


@pytest.mark.parametrize("columns", [20, 40, 60, 80, len(LONG) - 1])
def test_lines_fit_into_a_terminal_and_break_between_words(terminal: Callable[[int], None], columns: int) -> None:
    terminal(columns)
    first, *more = wrapped(LONG).split("\n")
    words = [word for line in (first, *more) for word in line.split()]
    assert words == LONG.split(), "an option's name is one word"
    assert more
    assert all(line.startswith("  ") for line in more)
    longest = max(map(len, words)) + 2
    assert max(map(len, (first, *more))) <= max(columns, longest)


def test_what_fits_stays_as_it_is(terminal: Callable[[int], None]) -> None:
    terminal(len(LONG))
    assert wrapped(LONG) == LONG
    assert wrapped("") == ""


def test_each_line_is_broken_by_itself_and_keeps_its_indent(terminal: Callable[[int], None]) -> None:
    terminal(24)
    assert wrapped("short\n  one two three four five six\n\nend") == (
        "short\n  one two three four\n    five six\n\nend"
    )


def test_what_is_copied_is_not_broken(terminal: Callable[[int], None]) -> None:
    terminal(30)
    assert wrapped(f"deluge: look at {PATH} for more") == f"deluge: look at\n  {PATH}\n  for more"


@pytest.mark.parametrize(("given", "columns"), [("40", 40), ("", 60), ("0", 60), ("wide", 60)])
def test_the_environment_may_say_the_width(
    terminal: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, given: str, columns: int
) -> None:
    terminal(60)
    monkeypatch.setenv("COLUMNS", given)
    longest = max(map(len, wrapped(LONG).split("\n")))
    assert columns - 24 < longest <= columns


def test_a_terminal_of_unknown_width_has_80_columns(terminal: Callable[[int], None]) -> None:
    terminal(0)
    assert 56 < max(map(len, wrapped(LONG).split("\n"))) <= 80


def test_lines_of_progress_are_broken_too(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stderr", screen)
    write_line("120/1,000 prompts, 80 hits, 1 error, $0.0123 paid")
    assert screen.getvalue() == "120/1,000 prompts, 80 hits, 1 error,\n  $0.0123 paid\n"


def test_each_stream_is_looked_at_by_itself(
    terminal: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    terminal(40)
    with (tmp_path / "log").open("w") as stream:
        assert wrapped(LONG, stream) == LONG
        screen = sys.stderr
        monkeypatch.setattr(sys, "stderr", stream)
        assert max(map(len, wrapped(LONG, screen).split("\n"))) <= 40
        monkeypatch.setattr(sys, "stderr", screen)


def test_a_file_gets_whole_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with (tmp_path / "log").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert wrapped(LONG) == LONG
        monkeypatch.undo()
