"""Put and get for each kind of store, by the caches themselves; bytes on disk for an entry."""

import importlib.util

from benchmarks import redis
from benchmarks.bench import Bench, Figures
from benchmarks.contenders import CONTENDERS, PEERS
from benchmarks.figures import BYTES, RATE, Line, Sample, best_of_others, samples_of

TARGET_BYTES = 1_500

KINDS = {
    "sqlite": "an SQLite file",
    "leveldb": "LevelDB",
    "redis": "Redis",
    "mapping": "a dictionary of the user's",
    "memory": "memory",
}
# Libraries that have the kind of store, as they would be used.
HAVE = {
    "sqlite": ("ours", "reference", "langchain", "dspy", "litellm"),
    "leveldb": ("ours", "reference"),
    "redis": ("ours", "langchain", "litellm"),
    "mapping": ("ours", "reference"),
    "memory": ("ours", "langchain", "dspy"),
}
REMARKS = {("memory", "litellm"): "-; it keeps 200 entries"}


def measure(bench: Bench) -> list[Line]:
    return [line for kind in KINDS for line in _lines(bench, kind)]


def _lines(bench: Bench, kind: str) -> list[Line]:
    count = bench.form.cached
    if (missing := _missing(kind)) is not None:
        return [
            Line(f"{KINDS[kind]}, {count:,} entries", RATE, {"ours": Sample((), remark=f"-; {missing}")}, against="")
        ]

    def once(name: str) -> Figures:
        library, _, batched = name.partition(", ")
        return bench.cache_work(library, "store", store=kind, count=count, batched=bool(batched))

    results = bench.in_turn(("ours", "ours, batched", *HAVE[kind][1:]), bench.form.slow_repetitions, once)
    remarks = {
        name: Sample((), remark=REMARKS.get((kind, name), "-; has none"))
        for name in CONTENDERS | PEERS
        if name not in HAVE[kind]
    }
    lines = []
    for verb in ("put", "get"):
        samples = samples_of(results, verb) | remarks
        work = f"{verb}, {KINDS[kind]}, {count:,} entries"
        lines.append(Line(work, RATE, samples, against=best_of_others(samples, RATE)))
    if kind == "sqlite":
        lines.append(_disk(results, count))
    return lines


def _disk(results: dict[str, list[Figures]], count: int) -> Line:
    samples = {name: Sample([figures["disk"] / count for figures in each]) for name, each in results.items()}
    met = samples["ours"].median < TARGET_BYTES
    work = f"disk for an entry, an SQLite file, {count:,} entries"
    return Line(work, BYTES, samples, "under 1,500 B", met, against=best_of_others(samples, BYTES))


def _missing(kind: str) -> str | None:
    if kind == "redis" and not redis.installed():
        return "redis-server is not installed"
    needed = {"redis": "redis", "leveldb": "plyvel"}.get(kind)
    if needed is not None and importlib.util.find_spec(needed) is None:
        return f"{needed} is not installed"
    return None
