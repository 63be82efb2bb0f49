"""``deluge`` and ``python -m lm_deluge``: the command line, which an interruption ends quietly at any moment.

Imports take a third of a second, and a KeyboardInterrupt inside one comes out as anything, anywhere. So until there is
something to end in order, Ctrl-C ends the process itself, and again once all is done. This module is small, and
imports nothing but in the care of ``main``.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sys
    from typing import NoReturn

__all__ = ["main"]

_INTERRUPTED = 130  # what shells say of a program that Ctrl-C ended


def main() -> "NoReturn":
    """Run the command line on ``sys.argv`` and exit; see ``lm_deluge.cli.main`` for the exit codes."""
    try:
        import signal

        # Where the shell has it ignored, as for a job in the background, it stays so.
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            _run()
        signal.signal(signal.SIGINT, _leave)
        import lm_deluge.cli.app  # noqa: F401 - this takes the time, and ``_run`` needs it

        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            _run()
        finally:
            signal.signal(signal.SIGINT, _leave)
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None


def _run() -> "NoReturn":
    import sys

    from lm_deluge.cli import main

    sys.unraisablehook = _not_lost
    try:
        main()
    except Exception as error:
        if not _is_interruption(error):
            raise
        raise SystemExit(_INTERRUPTED) from None


def _leave(*_: object) -> None:
    import os

    os._exit(_INTERRUPTED)


def _is_interruption(error: BaseException | None) -> bool:
    """Whether an error is what something has made of a KeyboardInterrupt: a class that is being made, for example."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _not_lost(unraisable: "sys.UnraisableHookArgs") -> None:
    """An interruption inside a finalizer is given once more, to code that it can end."""
    import signal
    import sys

    if unraisable.exc_type is KeyboardInterrupt:
        signal.raise_signal(signal.SIGINT)
    else:
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    main()
