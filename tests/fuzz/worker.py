"""The process that runs cases: ``python -m tests.fuzz.worker``. What it dies of is a verdict of its parent's, too.

It reads a line with the name of a target and a length, then so many bytes, and answers with a line of JSON. A length
below zero only has the target's module imported, which is answered with ``ready``.
"""

import faulthandler
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

import msgspec

from . import targets
from .judge import judged

__all__ = ["main"]

_LARGEST_FILE = 1 << 30


def main() -> None:
    """Work until the parent is gone."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    orders, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a target prints past sys.stdout is no answer
    number = 0
    while line := orders.readline():
        name, size = line.split()
        module = targets.load(name.decode())
        if int(size) < 0:
            _answer(answers, b"ready")
            continue
        data = orders.read(int(size))
        (tmp := Path(tempfile.gettempdir(), f"case-{number}")).mkdir()
        verdict = judged(module, data, tmp)
        _answer(answers, msgspec.json.encode(verdict))
        shutil.rmtree(tmp, ignore_errors=True)
        number += 1


def _answer(answers: BinaryIO, line: bytes) -> None:
    answers.write(line + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # threads of a case that was given up must not hold the end
