"""A batch does not hold up its event loop: whatever else runs there gets its turn, and nothing there waits for a disk.

Each measurement is a fresh process (this file, run as a program), because what comes late is part of it: imports, the
first connection, the first look at a price list. The provider emulator is a process of its own as well.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MISSES = 2_000
STORED = 2_000
HITS = 20_000
LONGEST = 0.25  # seconds; about ten times what it takes on two quiet cores, as tests run on busy ones
NAP = 0.001


@pytest.fixture(scope="module")
def emulator_url() -> Iterator[str]:
    command = [sys.executable, "-m", "lm_deluge.testing", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def measured(task: str, url: str, directory: Path) -> dict[str, Any]:
    """The figures of one task, from a fresh process."""
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__, task, url, directory / "cache.db"],
        env={**os.environ, "OPENAI_API_KEY": "emulated"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_other_coroutines_get_their_turn(emulator_url, tmp_path):
    figures = measured("stalls", emulator_url, tmp_path)
    assert (figures["misses"]["calls"], figures["misses"]["errors"]) == (MISSES, 0)
    assert (figures["hits"]["hits"], figures["hits"]["errors"]) == (HITS, 0)
    for work in ("misses", "hits"):
        assert figures[work]["longest"] < LONGEST, (work, figures)
        assert figures[work]["turns"] > 10, (work, figures)


def test_nothing_on_the_loop_waits_for_a_disk_a_socket_or_a_lock(emulator_url, tmp_path):
    figures = measured("blocking", emulator_url, tmp_path)
    assert figures["caught"] == "time.sleep"  # the watch itself works
    assert figures["blocking"] == []
    assert (figures["misses"]["calls"], figures["hits"]["hits"]) == (300, 600)
    assert figures["misses"]["errors"] == figures["hits"]["errors"] == 0
    assert figures["misses"]["cache_failures"] == figures["hits"]["cache_failures"] == 0


def test_the_watch_sees_a_loop_that_is_blocked():
    async def main() -> dict[str, Any]:
        async with Watch() as watch:
            await asyncio.sleep(0.01)
            time.sleep(LONGEST)
        return watch.figures

    assert asyncio.run(main())["longest"] > 0.9 * LONGEST


class Watch:
    """A coroutine beside others, which naps for a millisecond at a time and keeps how late it woke at the latest."""

    def __init__(self) -> None:
        self.figures = {"longest": 0.0, "turns": 0}

    async def __aenter__(self) -> "Watch":
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(10 * NAP)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(2 * NAP)  # a stall that lasted to the end is seen too
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(NAP)
            self.figures["longest"] = max(self.figures["longest"], time.perf_counter() - began - NAP)
            self.figures["turns"] += 1


# What runs in the fresh process


def client_of(url: str, cache: Path) -> Any:
    from lm_deluge import LLMClient
    from lm_deluge.cache import SqliteCache

    limits = {"max_requests_per_minute": 10**9, "max_tokens_per_minute": 10**12}
    return LLMClient("gpt-4.1-mini", base_url=f"{url}/v1", cache=SqliteCache(cache), **limits)


async def report_of(client: Any, prompts: list[str], *, show_progress: bool) -> dict[str, Any]:
    responses = await client.process_prompts_async(prompts, show_progress=show_progress)
    assert len(responses) == len(prompts)
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


if __name__ == "__main__":
    task, url, cache = sys.argv[1:]
    json.dump({"stalls": stalls, "blocking": blocking}[task](url, Path(cache)), sys.stdout)
