"""Measure every row of the speed table, ours and the reference in turn, and write it down.

    python -m benchmarks [--quick | --long] [--only ROW ...] [--no-write]

The first run makes an environment for each of the others in ``benchmarks/.venvs``.
"""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks import report, server
from benchmarks.bench import Bench, Form
from benchmarks.rows import NAMES, row
from benchmarks.workload import ROOT

FORMS = {
    "quick": Form(
        "quick",
        repetitions=3,
        slow_repetitions=1,
        hits=5_000,
        stored=5_000,
        streamed=60_000,
        patience=15,
        cached=500,
        cache_sizes=(1_000, 10_000),
        filling=5,
        fan_out=300,
    ),
    "full": Form("full", repetitions=5, slow_repetitions=3),
    "long": Form(
        "long",
        repetitions=7,
        slow_repetitions=3,
        streamed=1_000_000,
        patience=1_000,
        cache_sizes=(1_000, 10_000, 100_000, 1_000_000),
        filling=1_000,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure ours beside the reference.")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--quick", action="store_const", dest="form", const="quick", help="a few minutes")
    form.add_argument(
        "--long",
        action="store_const",
        dest="form",
        const="long",
        help="a streamed million, a cache of a million, no cap",
    )
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="ROW", help=", ".join(NAMES))
    parser.add_argument("--no-write", action="store_true", help="leave docs/performance.md as it is")
    parser.set_defaults(form="full")
    options = parser.parse_args()

    console = Console()
    place = ROOT / "benchmarks" / ".work"
    place.mkdir(exist_ok=True)
    with server.running() as running, tempfile.TemporaryDirectory(dir=place) as directory:
        capacity = server.capacity(running)
        console.print(f"The server can answer {capacity:,.0f} requests a second on one core.")
        bench = Bench(FORMS[options.form], running, Path(directory), lambda text: console.print(text, style="dim"))
        measured = {name: row(name)(bench) for name in options.only or NAMES}
    tables = [(table, [line for name in table.rows for line in measured.get(name, ())]) for table in report.TABLES]
    report.show(tables, console)
    if not options.only and not options.no_write:
        report.write(tables, ROOT / "docs" / "performance.md", form=bench.form, capacity=capacity)


if __name__ == "__main__":
    main()
