"""Memory of a stream: prompts from a generator, answers taken one by one. It must not grow with the stream."""

from benchmarks.bench import Bench
from benchmarks.figures import MEGABYTES, Line, Sample

GROWTH = 1.05


def measure(bench: Bench) -> list[Line]:
    count = bench.form.streamed
    figures = bench.work("ours", "stream", count=count, cache=bench.new_cache())
    samples = {
        "ours": Sample([figures["peak"]], remark=f"{figures['early']:,.0f} MB after half of it"),
    }
    work = f"peak memory, a stream of {count:,} misses"
    met = figures["peak"] < GROWTH * figures["early"]
    return [Line(work, MEGABYTES, samples, "flat: the second half adds under 5%", met)]
