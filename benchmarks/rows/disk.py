"""Bytes on disk for an entry: a GSM8K question and its answer, after the cache was closed, files beside it included."""

from benchmarks import workload
from benchmarks.bench import Bench
from benchmarks.contenders import CONTENDERS
from benchmarks.figures import BYTES, Line, samples_of

TARGET = 1_500


def measure(bench: Bench) -> list[Line]:
    count = len(workload.rows())
    samples = samples_of(bench.in_turn(CONTENDERS, 1, lambda name: bench.fill(name, count)), "disk")
    work = f"disk for an entry, {count:,} GSM8K questions and answers"
    return [Line(work, BYTES, samples, "under 1,500 B", samples["ours"].median < TARGET)]
