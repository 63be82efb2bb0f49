"""Many-shot GSM8K: one long prefix, one question for each request, and what the provider bills for all of them."""

from collections import Counter

from benchmarks import workload
from benchmarks.bench import Bench, Figures
from benchmarks.contenders import SDKS
from benchmarks.fan_out import MODEL
from benchmarks.figures import DOLLARS, READS, SECONDS, TIMES, WRITES, Line, samples_of
from lm_deluge.testing import Emulator, count_tokens
from lm_deluge.testing.bill import Charge, make_bill

PREFIX = 20_000
CONCURRENCY = 225
LATENCY = 1.0
WITHIN = 1.01

LEAST = "least possible"
LIBRARIES = ("reference", *SDKS, "ours, not warmed", "ours, shared_prefix", "ours")
COLUMNS = (LEAST, *LIBRARIES)
NOTE = (
    f"GSM8K questions behind one many-shot system text of {PREFIX:,} tokens, {CONCURRENCY} requests at once, to "
    f"`{MODEL}` on the provider emulator. It begins each answer after {LATENCY} s, and a prefix can be read once the "
    "answer of a request that wrote it has begun: one that arrives earlier writes it too. The reference and ours are "
    'called with `cache="system_and_tools"`; *ours, not warmed* is `PromptCache(pattern="system_and_tools", '
    'warm=False)`, *ours, shared_prefix* is `cache="shared_prefix"`, and Anthropic\'s SDK has a breakpoint written by '
    "hand and a semaphore. Bills are what the emulator counted, at the prices of `genai-prices`. The least possible is "
    "one write of the prefix, a read of it by every other request, and the same questions and answers. Times include "
    "late imports."
)


def measure(bench: Bench) -> list[Line]:
    count = bench.form.fan_out
    least = _least(count)

    def once(name: str) -> Figures:
        figures = _once(bench, name, count)
        return figures | {"times": figures["dollars"] / least["dollars"]}

    measured = bench.in_turn(LIBRARIES, bench.form.slow_repetitions, once)
    results = {LEAST: [least]} | measured
    cheap = all(figures["times"] < WITHIN for figures in measured["ours"])
    single = all(figures["writers"] == 1 for figures in measured["ours"])
    times = samples_of(results, "times")
    writers = samples_of(results, "writers")
    return [
        Line(f"the bill of {count:,} questions", DOLLARS, samples_of(results, "dollars")),
        Line("that bill over the least possible", TIMES, times, f"under {WITHIN}x", cheap, against=""),
        Line("requests that wrote to the provider's cache", WRITES, writers, "1", single),
        Line("tokens written", WRITES, samples_of(results, "written")),
        Line("tokens read", READS, samples_of(results, "read")),
        Line("from the first question to the last answer", SECONDS, samples_of(measured, "seconds")),
    ]


def _least(count: int) -> Figures:
    """What it would come to if one request wrote the prefix and all others read it."""
    charges = Counter(
        Charge(
            provider="anthropic",
            model=MODEL,
            uncached=count_tokens(workload.prompt(number)),
            read=PREFIX if number else 0,
            write_5m=0 if number else PREFIX,
            output=count_tokens(workload.answer(number)),
        )
        for number in range(count)
    )
    cost = make_bill(charges).cost
    return {"dollars": cost, "times": 1.0, "writers": 1, "written": PREFIX, "read": PREFIX * (count - 1)}


def _once(bench: Bench, name: str, count: int) -> Figures:
    library, _, way = name.partition(", ")
    with Emulator(latency=LATENCY, record=False) as emulator:
        options = {"url": emulator.url, "concurrency": CONCURRENCY, "way": way, "prefix": PREFIX, "count": count}
        taken = bench.fan_out_work(library, **options)
        stats, bill = emulator.stats(), emulator.bill()
    figures = {
        "dollars": bill.cost,
        "calls": stats.calls,
        "writers": stats.cache_writes,
        "written": stats.cache_write_5m_tokens + stats.cache_write_1h_tokens,
        "read": stats.cache_read_tokens,
        "uncached": stats.input_tokens,
        "output": stats.output_tokens,
        **taken,
    }
    bench.say(f"{name} fan-out {count}", figures)
    return figures
