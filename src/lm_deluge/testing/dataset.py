"""GSM8K, shipped with the package: real prompts and real answers for tests, examples and benchmarks."""

import functools
import gzip
import importlib.resources
import re
from typing import Literal

import msgspec

__all__ = ["find_answer", "gsm8k", "load", "pick_answer"]

# A question is recognized by how it ends: the end is what a prompt template leaves in place.
_TAIL = 24
_SENTENCE_END = re.compile(r"[?.!)]")


def gsm8k(split: Literal["test", "train"] = "test") -> list[dict[str, str]]:
    """Math word problems as ``{"question": ..., "answer": ...}``, in the order of the original files.

    Args:
        split: ``"test"`` for all 1,319 test rows; ``"train"`` for the first 120 training rows, enough for a
            many-shot prefix of about 20,000 tokens.

    From openai/grade-school-math, MIT license.
    """
    return [dict(row) for row in _rows(split)]


def find_answer(text: str) -> str | None:
    """The answer of the last GSM8K question that ``text`` contains, or None."""
    index = _questions_by_tail()
    for end in [found.end() for found in _SENTENCE_END.finditer(text)][::-1]:
        for question, answer in index.get(text[max(0, end - _TAIL) : end], ()):
            if text.endswith(question, 0, end):
                return answer
    return None


def load() -> None:
    """Read the files now, where that may block, and not at the first answer."""
    _questions_by_tail()


def pick_answer(number: int) -> str:
    """The answer of one test row, chosen by a number."""
    rows = _rows("test")
    return rows[number % len(rows)]["answer"]


@functools.cache
def _rows(split: str) -> list[dict[str, str]]:
    packed = importlib.resources.files("lm_deluge.testing").joinpath("data", f"gsm8k_{split}.jsonl.gz").read_bytes()
    return msgspec.json.Decoder(dict[str, str]).decode_lines(gzip.decompress(packed))


@functools.cache
def _questions_by_tail() -> dict[str, list[tuple[str, str]]]:
    index: dict[str, list[tuple[str, str]]] = {}
    for split in ("test", "train"):
        for row in _rows(split):
            question = row["question"].rstrip()
            index.setdefault(question[-_TAIL:], []).append((question, row["answer"]))
    return index
