"""The command line, ``deluge``. Commands import what they need when they run, so that help is there at once.

What cannot be done is an error of the library, which ``main`` tells: functions do not list those that come from below.
"""

import os
import sys
import warnings
from typing import Any, NoReturn

from lm_deluge.errors import LMDelugeError, LMDelugeWarning

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line on ``sys.argv`` and exit.

    The exit code is 0 when all went well, 1 when some prompts ended in errors or a cache is damaged, 2 when the command
    could not be carried out, 130 after Ctrl-C, and 143 where a run was told to end by SIGTERM.
    """
    # As a terminal without a size says it. It would be taken at its word, and nothing would be printed.
    if not os.environ.get("COLUMNS", "unset").strip("0 "):
        del os.environ["COLUMNS"]

    from lm_deluge.cli.app import app
    from lm_deluge.cli.usage import UsageError, told

    warnings.formatwarning = _format_warning
    try:
        code = app(prog_name="deluge", standalone_mode=False)
        sys.stdout.flush()  # while a closed pipe is still an error that can be told
    except UsageError as error:
        if sentence := told(error):
            _complain(" ".join(sentence.split()))
        sys.exit(2)
    except (LMDelugeError, ImportError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            _leave_closed_pipe()
        _complain(_describe(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code or 0)


def _complain(message: str) -> None:
    from lm_deluge.cli.terminal import say

    say(f"deluge: {message}")


def _describe(error: Exception) -> str:
    from lm_deluge.cli.terminal import shown

    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return shown(f"{error.filename}: {error.strerror}")
    return str(error)


def _leave_closed_pipe() -> NoReturn:
    """End quietly when the reader of standard output has gone, as after ``| head``."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter flushes into the closed pipe
    sys.exit(1)


_plain_format = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Our own warnings say what to do themselves; a line of source would only hide that."""
    if issubclass(category, LMDelugeWarning):
        from lm_deluge.cli.terminal import for_stderr

        return for_stderr(f"deluge: warning: {message}")
    unchanged: Any = _plain_format(message, category, filename, lineno, line)
    return str(unchanged)
