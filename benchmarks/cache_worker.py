"""One measurement of a cache by itself, in a fresh process of the library's own interpreter.

    python -m benchmarks.cache_worker LIBRARY TASK OPTIONS RESULT_FILE

As ``benchmarks.worker``: options as JSON in, figures as JSON out, standard library only besides the library, and every
answer compared with what it should be after the clock stopped.
"""

import importlib
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import workload

GONE_WITH_THE_PROCESS = ("memory", "mapping")
SHUFFLED = random.Random(0)

Open = Callable[[], Any]


def store(open_cache: Open, *, store: str, base_url: str, count: int, batched: bool) -> dict[str, float]:
    """Put ``count`` answers, then get each of them from a cache that was opened anew, in another order."""
    texts = list(workload.prompts(count))
    cache = open_cache()
    answers = cache.answers(texts, base_url)
    check(cache, range(count), answers)
    prompts = [cache.prompt(text) for text in texts]
    put = cache.put_all if batched else _one_by_one(cache.put)
    began = time.perf_counter()
    put(prompts, answers)
    putting = time.perf_counter() - began

    if store not in GONE_WITH_THE_PROCESS:
        cache.close()
        cache = open_cache()
    order = SHUFFLED.sample(range(count), count)
    prompts = [cache.prompt(texts[number]) for number in order]  # new ones, of which nothing is worked out yet
    get = cache.get_all if batched else _one_by_one(cache.get)
    began = time.perf_counter()
    found = get(prompts)
    getting = time.perf_counter() - began
    check(cache, order, found)
    cache.close()
    return {"put": count / putting, "get": count / getting}


def sizes(
    open_cache: Open, *, base_url: str, sizes: Sequence[int], probes: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """How long a hit takes, in microseconds, as the cache grows: medians of three rounds, for each size.

    A library with ``fill`` gets only the entries that are asked for through its cache. One that takes longer than
    ``seconds`` to reach a size stops there; ``"stopped"`` says how far it came.
    """
    cache = open_cache()
    distinct = cache.answers([workload.prompt(number) for number in range(len(workload.rows()))], base_url)

    def put(number: int) -> None:
        cache.put(cache.prompt(workload.prompt(number)), distinct[number % len(distinct)])

    figures: dict[str, dict[str, Any]] = {}
    present: list[int] = []
    there, began = 0, time.perf_counter()
    for size in sizes:
        step = (size - there) // probes
        for _ in range(probes):  # entries that are asked for lie between those that are not
            if hasattr(cache, "fill"):
                put(there)
                cache.fill(there + 1, step - 1)
                present.append(there)
            else:
                for number in range(there, there + step):
                    put(number)
                present.append(there + SHUFFLED.randrange(step))
            there += step
            if time.perf_counter() - began > seconds:
                return figures | {str(size): {"stopped": there}}
        cache.close()
        cache = open_cache()
        figures[str(size)] = {"hit": [_hit(cache, SHUFFLED.sample(present, probes)) for _ in range(3)]}
    cache.close()
    return figures


def _hit(cache: Any, numbers: Sequence[int]) -> float:
    prompts = [cache.prompt(workload.prompt(number)) for number in numbers]
    found, taken = [], []
    for prompt in prompts:
        began = time.perf_counter()
        answer = cache.get(prompt)
        taken.append(time.perf_counter() - began)
        found.append(answer)
    check(cache, numbers, found)
    return statistics.median(taken) * 1e6


def _one_by_one(call: Callable[..., Any]) -> Callable[..., list[Any]]:
    return lambda *columns: [call(*row) for row in zip(*columns, strict=True)]


def check(cache: Any, numbers: Sequence[int], answers: Sequence[Any]) -> None:
    """The right answer for each prompt."""
    for number, answer in zip(numbers, answers, strict=True):
        if answer is None or cache.text(answer) != workload.answer(number):
            raise AssertionError(f"prompt {number} was answered with {answer!r:.500}")


def main() -> None:
    library, task, options, result = sys.argv[1:]
    given = json.loads(options)
    place, redis_url = Path(given.pop("place")), given.pop("redis_url")
    adapter = importlib.import_module(f"benchmarks.caches.{library}").Adapter
    kind = given["store"] if task == "store" else given.pop("store")
    figures = globals()[task](lambda: adapter(kind, place, redis_url), **given)
    Path(result).write_text(json.dumps(figures))
    sys.stdout.flush()
    os._exit(0)  # as in ``benchmarks.worker``


if __name__ == "__main__":
    main()
