"""Event-loop stall: how long a batch keeps another coroutine of the same loop from running, at the longest."""

from benchmarks.bench import Bench, Figures
from benchmarks.contenders import CONTENDERS
from benchmarks.figures import MILLISECONDS, Line, samples_of

MISSES = 2_000
TARGET = 20


def measure(bench: Bench) -> list[Line]:
    def beside_hits(name: str) -> Figures:
        return bench.work(name, "watch", count=hits, hits=True, cache=bench.filled(name, hits))

    def beside_misses(name: str) -> Figures:
        return bench.work(name, "watch", count=MISSES, hits=False, cache=bench.new_cache())

    hits = bench.form.hits
    lines = []
    for work, once in ((f"{hits:,} hits", beside_hits), (f"{MISSES:,} misses", beside_misses)):
        samples = samples_of(bench.in_turn(CONTENDERS, bench.form.repetitions, once), "stall")
        met = samples["ours"].median < TARGET
        lines.append(Line(f"longest event-loop stall, {work}", MILLISECONDS, samples, "under 20 ms", met))
    return lines
