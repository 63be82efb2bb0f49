"""Many prompts behind one long prefix: one file for each library, imported in that library's own interpreter.

The file defines ``Adapter``. Standard library only here.
"""

from collections.abc import Sequence
from typing import Protocol

__all__ = ["MAX_TOKENS", "MODEL", "FanOutAdapter"]

MODEL = "claude-haiku-4-5"
MAX_TOKENS = 512


class FanOutAdapter(Protocol):
    """A library's way to ask many questions with the same system text, which the provider's cache is to keep.

    Constructed with ``url``, where the server listens, ``concurrency``, how many requests may be under way at once, and
    the ``way`` to do it where a library has several; "" is the one that its documentation shows.
    """

    def ask(self, system: str, questions: Sequence[str]) -> list[str | None]:
        """The answers, in the order of the questions; None for one that failed."""
        ...
