"""The most memory that a process has while it sends many prompts and stores their answers, all results kept."""

from benchmarks.bench import Bench
from benchmarks.contenders import CONTENDERS
from benchmarks.figures import MEGABYTES, Line, samples_of

TARGET = 90


def measure(bench: Bench) -> list[Line]:
    count = bench.form.stored
    results = bench.in_turn(CONTENDERS, bench.form.slow_repetitions, lambda name: bench.fill(name, count))
    samples = samples_of(results, "peak")
    work = f"peak memory, {count:,} misses, `SqliteCache`"
    return [Line(work, MEGABYTES, samples, "under 90 MB", samples["ours"].median < TARGET)]
