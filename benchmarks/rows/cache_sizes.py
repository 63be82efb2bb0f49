"""How long one hit takes as the cache grows: it must not depend on how much there is."""

from benchmarks.bench import Bench, Figures
from benchmarks.contenders import CONTENDERS, PEERS
from benchmarks.figures import MICROSECONDS, Line, Sample, best_of_others

PROBES = 100
FLAT = 2.0


def measure(bench: Bench) -> list[Line]:
    sizes = bench.form.cache_sizes
    options = {"sizes": sizes, "probes": PROBES, "seconds": bench.form.filling}
    results = {
        name: bench.cache_work(name, "sizes", store="sqlite", on_disk=False, **options) for name in CONTENDERS | PEERS
    }
    lines = []
    for size in sizes:
        samples = {name: _sample(figures.get(str(size)), bench.form.filling) for name, figures in results.items()}
        small = results["ours"][str(sizes[0])]["hit"]
        flat = samples["ours"].median < FLAT * Sample(small).median if samples["ours"].values else False
        work = f"one hit, an SQLite file of {size:,} entries"
        against = best_of_others(samples, MICROSECONDS)
        lines.append(Line(work, MICROSECONDS, samples, f"under {FLAT:.0f}x of {sizes[0]:,}", flat, against=against))
    return lines


def _sample(figures: Figures | None, seconds: float) -> Sample:
    match figures:
        case None:
            return Sample(())
        case {"stopped": reached}:
            return Sample((), remark=f"-; {reached:,} entries in {seconds:.0f} s")
        case _:
            return Sample(figures["hit"])
