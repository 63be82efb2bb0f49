"""Hits: every answer is in the local cache, and limits are raised so that they do not matter."""

from benchmarks.bench import Bench
from benchmarks.contenders import CONTENDERS
from benchmarks.figures import RATE, Line, ratio, samples_of


def measure(bench: Bench) -> list[Line]:
    count = bench.form.hits
    results = bench.in_turn(
        CONTENDERS,
        bench.form.repetitions,
        lambda name: bench.work(name, "run", count=count, hits=True, cache=bench.filled(name, count), warm=True),
    )
    samples = samples_of(results, "rate")
    work = f"{count:,} hits, `process_prompts_sync`, `SqliteCache`"
    return [Line(work, RATE, samples, "10x", (ratio(samples, RATE) or 0.0) >= 10)]
