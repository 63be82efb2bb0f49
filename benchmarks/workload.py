"""The work that every contender does: GSM8K questions, the answers they must come back with, and a many-shot prefix.

Standard library only, because it is imported by the interpreters of all contenders.
"""

import functools
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_DATA = ROOT / "src" / "lm_deluge" / "testing" / "data"
_BYTES_PER_TOKEN = 4  # as the emulator counts
_SAMPLE = "\n\nSample "


@functools.cache
def rows(split: str = "test") -> tuple[tuple[str, str], ...]:
    """All (question, answer) pairs of a split; of ``"train"`` the 120 that are shipped."""
    lines = gzip.decompress((_DATA / f"gsm8k_{split}.jsonl.gz").read_bytes()).splitlines()
    return tuple((row["question"], row["answer"]) for row in map(json.loads, lines))


def many_shot(tokens: int) -> str:
    """A system text of so many tokens: solved problems of the training split, from the first again after the last."""
    shots = "\n\n".join(f"{question}\n{answer}" for question, answer in rows("train"))
    text, size = "Solve the problem as these were solved.", tokens * _BYTES_PER_TOKEN
    while len(text.encode()) < size:
        text += f"\n\n{shots}"
    return text.encode()[:size].decode("utf-8", "ignore")


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
