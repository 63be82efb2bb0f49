"""Misses: every prompt is sent, and its answer stored. Against the reference, and against the bare HTTP client."""

from benchmarks.bench import Bench, Figures
from benchmarks.contenders import CONTENDERS
from benchmarks.figures import RATE, Line, Sample, ratio, samples_of

COUNT = 2_000
CONCURRENCY = 225  # the default of both


def measure(bench: Bench) -> list[Line]:
    def once(name: str) -> Figures:
        if name == "bare":
            return bench.bare_transport(COUNT, CONCURRENCY)
        return bench.work(name, "run", count=COUNT, hits=False, cache=bench.new_cache(), warm=True)

    samples = samples_of(bench.in_turn((*CONTENDERS, "bare"), bench.form.repetitions, once), "rate")
    ours, bare = samples["ours"], samples["bare"]
    work = f"{COUNT:,} misses, concurrency {CONCURRENCY}, `SqliteCache`, loopback server"
    limit = Sample((), remark=f"bare HTTP client: {bare.text(RATE)}")
    against_bare = {"ours": ours, "reference": limit, "bare": bare}
    within = ratio(against_bare, RATE, "bare") or 0.0
    return [
        Line(work, RATE, samples, "10x", (ratio(samples, RATE) or 0.0) >= 10),
        Line("the same, against the bare HTTP client", RATE, against_bare, "within 2x", within >= 0.5, against="bare"),
    ]
