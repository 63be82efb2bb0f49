"""The work that every contender does: GSM8K questions, and the answers they must come back with.

Standard library only, because it is imported by the interpreters of all contenders.
"""

import functools
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_DATA = ROOT / "src" / "lm_deluge" / "testing" / "data" / "gsm8k_test.jsonl.gz"
_SAMPLE = "\n\nSample "


@functools.cache
def rows() -> tuple[tuple[str, str], ...]:
    """All (question, answer) pairs of the test split."""
    lines = gzip.decompress(_DATA.read_bytes()).splitlines()
    return tuple((row["question"], row["answer"]) for row in map(json.loads, lines))


def prompt(number: int) -> str:
    """Prompt ``number``: no two are the same, however many are asked for."""
    repeat, row = divmod(number, len(rows()))
    question = rows()[row][0]
    return f"{question}{_SAMPLE}{repeat}." if repeat else question


def answer(number: int) -> str:
    """What prompt ``number`` must be answered with."""
    return rows()[number % len(rows())][1]


def question_of(text: str) -> str:
    """The question that a prompt was made from."""
    return text.partition(_SAMPLE)[0]


def prompts(count: int) -> Iterator[str]:
    """The first ``count`` prompts."""
    return (prompt(number) for number in range(count))
