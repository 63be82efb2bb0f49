"""Sentences for people: in a terminal, lines break between words, and not where it ends."""

import os
import sys
import textwrap
from typing import TextIO

__all__ = ["wrapped"]

_INDENT = "  "
_LEAST = 20  # columns; in fewer, nothing can be read anyway


def wrapped(text: str, stream: TextIO | None = None) -> str:
    """Text as a stream shows it best: lines that fit into a terminal, or all of it as it is for a file or a pipe.

    Args:
        text: one or more lines. What continues one is indented by two spaces more than it is.
        stream: where it goes; None for what is standard error now.
    """
    stream = stream or sys.stderr
    if not stream.isatty():
        return text
    columns = max(_columns(stream), _LEAST)
    return "\n".join(line if len(line) <= columns else _broken(line, columns) for line in text.split("\n"))


def _broken(line: str, columns: int) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line,
        columns,
        subsequent_indent=indent + _INDENT,
        break_long_words=False,  # paths and URLs are copied
        break_on_hyphens=False,  # and so are options
    )


def _columns(stream: TextIO) -> int:
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80
