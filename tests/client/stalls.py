"""The program of ``test_stalls``: ``python stalls.py TASK URL CACHE_FILE`` prints what a task measured, as JSON.

A process of its own, without pytest, so that what is measured is what a user's script would see.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MISSES = 2_000
STORED = 2_000
HITS = 20_000
BLOCKED = 0.3
NAP = 0.001

kept: list[Any] = []  # freeing what a run gave back is its user's doing


class Watch:
    """A coroutine beside others, which naps for a millisecond at a time and keeps how it was held up at the worst.

    Figures:
        late: the longest that it woke too late.
        busy: the same, but no longer than this process computed meanwhile, in whatever thread: other processes of a
            machine with little to spare do not count.
        turns: how often it woke.
    """

    def __init__(self) -> None:
        self.figures = {"late": 0.0, "busy": 0.0, "turns": 0}

    async def __aenter__(self) -> "Watch":
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(10 * NAP)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(2 * NAP)  # a stall that lasted to the end is seen too
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        figures = self.figures
        while True:
            began, worked = time.perf_counter(), time.process_time()
            await asyncio.sleep(NAP)
            late = time.perf_counter() - began - NAP
            figures["late"] = max(figures["late"], late)
            figures["busy"] = max(figures["busy"], min(late, time.process_time() - worked))
            figures["turns"] += 1


def client_of(url: str, cache: Path) -> Any:
    from lm_deluge import LLMClient
    from lm_deluge.cache import SqliteCache

    limits = {"max_requests_per_minute": 10**9, "max_tokens_per_minute": 10**12}
    return LLMClient("gpt-4.1-mini", base_url=f"{url}/v1", cache=SqliteCache(cache), **limits)


async def report_of(client: Any, prompts: list[str], *, show_progress: bool) -> dict[str, Any]:
    responses = await client.process_prompts_async(prompts, show_progress=show_progress)
    assert len(responses) == len(prompts)
    kept.append(responses)
    report = client.last_report
    return {name: getattr(report, name) for name in ("calls", "hits", "errors", "cache_failures")}


def stalls(url: str, cache: Path) -> dict[str, Any]:
    client = client_of(url, cache)

    async def main() -> dict[str, Any]:
        async with Watch() as beside_misses:
            misses = await report_of(client, [f"Prompt {number}" for number in range(MISSES)], show_progress=True)
        async with Watch() as beside_hits:
            prompts = [f"Prompt {number % STORED}" for number in range(HITS)]
            hits = await report_of(client, prompts, show_progress=True)
        return {"misses": misses | beside_misses.figures, "hits": hits | beside_hits.figures}

    return asyncio.run(main())


def blocking(url: str, cache: Path) -> dict[str, Any]:
    import blockbuster.blockbuster as library

    seen: list[str] = []

    class Recorded(library.BlockingError):  # wherever it is raised, somebody may catch it
        def __init__(self, function: str) -> None:
            seen.append(function)
            super().__init__(function)

    library.BlockingError = Recorded

    client = client_of(url, cache)  # made before there is a loop: opening a file there would be the user's own doing

    async def main() -> dict[str, Any]:
        with library.blockbuster_ctx("lm_deluge"):
            misses = await report_of(client, [f"Prompt {number}" for number in range(300)], show_progress=False)
            prompts = [f"Prompt {number % 300}" for number in range(600)]
            hits = await report_of(client, prompts, show_progress=False)
            found = list(seen)
        with library.blockbuster_ctx():
            try:
                time.sleep(NAP)
            except library.BlockingError:
                caught = seen[-1]
        return {"misses": misses, "hits": hits, "blocking": found, "caught": caught}

    return asyncio.run(main())


def computing(url: str, cache: Path) -> dict[str, Any]:
    def compute() -> None:
        end = time.process_time() + BLOCKED
        while time.process_time() < end:
            pass

    return watched(compute)


def sleeping(url: str, cache: Path) -> dict[str, Any]:
    return watched(lambda: time.sleep(BLOCKED))


def watched(block: Callable[[], None]) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        async with Watch() as watch:
            block()
        return watch.figures

    return asyncio.run(main())


if __name__ == "__main__":
    task, url, cache = sys.argv[1:]
    json.dump(globals()[task](url, Path(cache)), sys.stdout)
    if task == "blocking":
        # Its tool has changed built-in types through ctypes. What the interpreter makes of those while it takes them
        # apart is no concern of ours: two runs of more than a thousand crashed there. How processes end that have used
        # the library alone is what tests/transport/test_lifecycle.py is about.
        sys.stdout.flush()
        os._exit(0)
