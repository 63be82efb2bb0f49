"""Sentences for standard error: where that is a terminal, lines break between words, and not where it ends."""

import os
import sys
import textwrap

__all__ = ["wrapped"]

_INDENT = "  "
_LEAST = 20  # columns; in fewer, nothing can be read anyway


def wrapped(text: str) -> str:
    """Text as standard error shows it best: lines that fit into a terminal, or all of it as it is for a file or a pipe.

    Args:
        text: one or more lines. What continues one is indented by two spaces more than it is.
    """
    if not sys.stderr.isatty():
        return text
    columns = max(_columns(), _LEAST)
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


def _columns() -> int:
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80
