"""Hits at the default rate limits, which a local hit has no reason to wait for. A run that takes long is given up."""

from benchmarks.bench import Bench
from benchmarks.contenders import CONTENDERS
from benchmarks.figures import SECONDS, Line, Sample

COUNT = 3_000
TARGET = 0.3


def measure(bench: Bench) -> list[Line]:
    samples = {name: _sample(bench, name) for name in CONTENDERS}
    work = f"{COUNT:,} hits at default rate limits"
    return [Line(work, SECONDS, samples, "under 0.3 s", samples["ours"].median < TARGET)]


def _sample(bench: Bench, name: str) -> Sample:
    cache, patience = bench.filled(name, COUNT), bench.form.patience
    taken: list[float] = []
    for _ in range(bench.form.repetitions):
        figures = bench.work(name, "capped", count=COUNT, hits=True, cache=cache, default_limits=True, seconds=patience)
        if figures["seconds"] is None:  # waiting for a minute's limit: once is enough
            answered = figures["answered"]
            remark = "stopped then" if answered is None else f"stopped then, {answered:,} answered"
            return Sample([patience], at_least=True, remark=remark)
        taken.append(figures["seconds"])
    return Sample(taken)
