"""The process that opens hostile cache files: ``python hostile.py``, with a path on each line of its input.

It does with each all that a run and the commands do, and writes a line of JSON: what was raised, by operation, and
whether any answer was wrong. Memory is limited and a watch ends it, so that neither is the problem of the tests.
"""

import asyncio
import faulthandler
import json
import resource
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.admin.archive import export
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.prompt import Conversation, Message
from lm_deluge.response import APIResponse

PROMPTS = 12
SECONDS = 20.0
MORE_BYTES = 700 * 1024 * 1024


def prompt(number: int) -> Conversation:
    return Conversation.system("long " * 400).user(str(number))


def answer(number: int) -> APIResponse:
    return APIResponse(model_internal="gpt-4.1-mini", content=Message.ai(f"answer {number}"), finish_reason="stop")


def limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


class Use:
    """What is done with one file, and what came of it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.raised: dict[str, str] = {}
        self.hits = self.wrong = 0

    def __call__(self) -> dict[str, Any]:
        store = self.done("open to read", lambda: SqliteStore(self.path, read_only=True))
        if store is not None:
            self.scan(store, "read only: ")
            store.close()
        cache = self.done("open", lambda: SqliteCache(self.path))
        if cache is not None:
            self.run(cache)
            self.scan(cache.backend, "")
            self.change(cache)
            self.done("close", cache.close)
        self.done("rebuild", lambda: SqliteStore.rebuild_file(self.path))
        return {"raised": self.raised, "hits": self.hits, "wrong": self.wrong}

    def done(self, name: str, operation: Callable[[], Any]) -> Any:
        try:
            return operation()
        except Exception as error:
            self.raised[name] = f"{type(error).__name__}: {error}"
            return None

    def run(self, cache: SqliteCache) -> None:
        wanted = [prompt(number) for number in range(PROMPTS)]
        for number, found in enumerate(self.done("look up", lambda: asyncio.run(cache.get_many(wanted))) or ()):
            self.hits += found.response is not None
            self.wrong += found.response is not None and found.response != answer(number)
        self.done("store", lambda: cache.put(prompt(PROMPTS), answer(PROMPTS)))
        if "store" not in self.raised and self.done("get", lambda: cache.get(prompt(PROMPTS))) != answer(PROMPTS):
            self.raised["store"] = "what was stored is not there"
        self.done("explain", lambda: str(cache.explain(prompt(99))))

    def scan(self, store: Any, where: str) -> None:
        self.done(f"{where}scan", lambda: [repr(entry) for entry in store.scan()])
        self.done(f"{where}newest", lambda: [repr(entry) for entry in store.scan(newest_first=True)])
        self.done(f"{where}quarantined", lambda: list(store.quarantined()))
        self.done(f"{where}runs", lambda: [repr(run) for run in store.runs()])
        self.done(f"{where}usage", lambda: store.usage())
        self.done(f"{where}verify", lambda: list(store.verify()))
        self.done(f"{where}export", lambda: export(store, lambda line: None))

    def change(self, cache: SqliteCache) -> None:
        self.done("delete", lambda: cache.delete(prompt(1)))
        self.done("limit", lambda: cache.backend.limit(1))  # type: ignore[attr-defined]
        self.done("evict", lambda: cache.put(prompt(PROMPTS + 1), answer(PROMPTS + 1)))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with suppress(OSError):  # not Linux
        limit_memory()
    for line in sys.stdin:
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        sys.stdout.write(json.dumps(Use(line.strip())()) + "\n")
        sys.stdout.flush()
