"""What both conformance suites need: saying what is wrong, doing several things at once, and a forked child."""

import os
import select
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["expect", "in_child", "in_threads"]

_THREAD_SECONDS = 120.0
_CHILD_SECONDS = 30.0


def expect(found: object, wanted: object, what: str) -> None:
    """Fail with what was expected and what was found."""
    if found != wanted:
        raise AssertionError(f"{what}: expected {_short(wanted)}, found {_short(found)}")


def in_threads(actions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do all at once, each in a thread of its own; what they gave, in order. What one raises is raised here."""
    results: list[Any] = [None] * len(actions)
    errors: list[BaseException] = []
    start = threading.Barrier(len(actions))

    def run(at: int) -> None:
        try:
            start.wait(_THREAD_SECONDS)
            results[at] = actions[at]()
        except BaseException as error:  # noqa: BLE001 - raised by the caller that waits for the threads
            errors.append(error)

    threads = [threading.Thread(target=run, args=(at,), daemon=True) for at in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_THREAD_SECONDS)
    if errors:
        raise errors[0]
    if any(thread.is_alive() for thread in threads):
        raise AssertionError(f"of {len(threads)} threads at once some wait for ever")
    return results


def in_child(work: Callable[[], object]) -> str:
    """What a forked child says of its work."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 and later, about the threads
        child = os.fork()
    if not child:
        try:
            try:
                said = repr(work())
            except BaseException as error:  # noqa: BLE001 - told to the parent
                said = repr(error)
            os.write(writing, said.encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], _CHILD_SECONDS)
        return os.read(reading, 10_000).decode() if ready else "it hangs"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 500 else f"{text[:480]}… ({len(text)} characters)"
