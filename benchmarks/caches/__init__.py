"""Caches by themselves, without a client: one file for each library, imported in that library's own interpreter.

The file defines ``STORES``, the kinds of store that it has, and ``Adapter``. Prompts and answers are values of the
library itself, made before the clock starts. Standard library only here.
"""

import http.client
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

__all__ = ["CacheAdapter", "completions"]


class CacheAdapter(Protocol):
    """A library's cache over one of its stores.

    Constructed with the kind of store, a path of its own that does not exist yet (or does, to open it again), and the
    URL of a Redis server where the kind is ``"redis"``.
    """

    def prompt(self, text: str) -> Any:
        """A user's message as the library has it."""
        ...

    def answers(self, texts: Sequence[str], base_url: str) -> list[Any]:
        """The server's answers as the library has them."""
        ...

    def put(self, prompt: Any, answer: Any) -> None:
        """Store one answer."""
        ...

    def get(self, prompt: Any) -> Any:
        """The stored answer, or None."""
        ...

    def text(self, answer: Any) -> str:
        """The text of an answer."""
        ...

    def close(self) -> None:
        """Release the store."""
        ...


def completions(texts: Iterable[str], base_url: str) -> Iterator[dict[str, Any]]:
    """What the server answers to each text, decoded."""
    parts = urlsplit(base_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    for text in texts:
        body = json.dumps({"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": text}]})
        connection.request("POST", f"{parts.path}/chat/completions", body)
        yield json.loads(connection.getresponse().read())
    connection.close()
