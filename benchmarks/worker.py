"""One measurement, in a fresh process of the contender's own interpreter: options as JSON in, figures as JSON out.

    python -m benchmarks.worker CONTENDER TASK OPTIONS RESULT_FILE

Standard library only, besides the contender. Every answer is compared with what it should be, after the clock stopped:
a contender that is fast and wrong ends with an error.
"""

import asyncio
import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import workload

MEGABYTE = 1e6


def peak_memory() -> float:
    """The most memory this process had, in MB. On Linux ``ru_maxrss`` includes what came before ``exec``: not used."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE  # macOS, where it is bytes
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / MEGABYTE


def check(responses: list[Any], *, count: int, hits: bool) -> None:
    """One right answer for each prompt, in order."""
    if len(responses) != count:
        raise AssertionError(f"{count} prompts got {len(responses)} responses")
    for number, response in enumerate(responses):
        if response.completion != workload.answer(number) or bool(response.local_cache_hit) != hits:
            raise AssertionError(f"prompt {number} was answered with {response!r:.500}")


def run(adapter: Any, *, count: int, hits: bool, warm: bool) -> dict[str, float]:
    """A batch through the synchronous call. ``warm`` sends one other prompt first, so that late imports are done."""
    prompts = list(workload.prompts(count))
    if warm:
        adapter.run([workload.prompt(-1)])
    start, cpu = time.perf_counter(), time.process_time()
    responses = adapter.run(prompts)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = peak_memory()
    check(responses, count=count, hits=hits)
    adapter.close()
    return {"seconds": seconds, "cpu": cpu, "rate": count / seconds, "peak": peak}


def watch(adapter: Any, *, count: int, hits: bool) -> dict[str, float]:
    """A batch through the asynchronous call, and the longest time (ms) that it kept another coroutine from running."""
    prompts = list(workload.prompts(count))
    nap = 0.001

    async def watchdog() -> float:
        longest, start = 0.0, time.perf_counter()
        try:
            while True:
                start = time.perf_counter()
                await asyncio.sleep(nap)
                longest = max(longest, time.perf_counter() - start - nap)
        except asyncio.CancelledError:
            return max(longest, time.perf_counter() - start - nap)

    async def main() -> tuple[list[Any], float]:
        beside = asyncio.create_task(watchdog())
        await asyncio.sleep(0.01)
        responses = await adapter.run_async(prompts)
        beside.cancel()
        return responses, await beside

    responses, longest = asyncio.run(main())
    check(responses, count=count, hits=hits)
    return {"stall": longest * 1000}


def capped(adapter: Any, *, count: int, hits: bool, seconds: float) -> dict[str, float | None]:
    """A batch that is given up after some seconds; then ``answered`` says how far it came."""

    async def main() -> dict[str, float | None]:
        prompts = list(workload.prompts(count))
        start = time.perf_counter()
        task = asyncio.create_task(adapter.run_async(prompts))
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if done:
            taken = time.perf_counter() - start
            check(task.result(), count=count, hits=hits)
            return {"seconds": taken, "answered": count}
        return {"seconds": None, "answered": adapter.looked_up()}

    loop = asyncio.new_event_loop()
    return loop.run_until_complete(main())  # left open: what goes on in it is nobody's any more


def stream(adapter: Any, *, count: int) -> dict[str, float]:
    """A stream of prompts that is never in memory as a whole: peak memory after half of it, and at its end."""

    async def main() -> dict[str, float]:
        done, early, start = 0, 0.0, time.perf_counter()
        async for response in adapter.stream(workload.prompts(count)):
            if response.completion != workload.answer(response.id):
                raise AssertionError(f"prompt {response.id} was answered with {response!r:.500}")
            done += 1
            if done == count // 2:
                early = peak_memory()
        if done != count:
            raise AssertionError(f"{count} prompts got {done} responses")
        return {"early": early, "peak": peak_memory(), "rate": count / (time.perf_counter() - start)}

    return asyncio.run(main())


def main() -> None:
    contender, task, options, result = sys.argv[1:]
    given = json.loads(options)
    setting = {"base_url": given.pop("base_url"), "default_limits": given.pop("default_limits")}
    module = importlib.import_module(f"benchmarks.contenders.{contender}")
    figures = globals()[task](module.Adapter(cache=Path(given.pop("cache")), **setting), **given)
    Path(result).write_text(json.dumps(figures))
    sys.stdout.flush()
    os._exit(0)  # nothing a library does at its end is part of the work, nor may it hold up the next measurement


if __name__ == "__main__":
    main()
