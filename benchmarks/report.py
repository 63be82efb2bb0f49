"""The tables, for the terminal and for the documentation."""

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.bench import Form
from benchmarks.contenders import CONTENDERS, PEERS, SDKS
from benchmarks.figures import OURS, Line, Sample
from benchmarks.rows import BILL, CACHES, CLIENT, fan_out

__all__ = ["TABLES", "Table", "show", "write"]


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        title: its heading.
        rows: the names of its rows.
        contenders: a column for each.
        ratio: what ours is compared with, as the heading of that column.
        note: what was measured, where the rows do not say it.
    """

    title: str
    rows: Sequence[str]
    contenders: Sequence[str]
    ratio: str
    note: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        return ("work", *self.contenders, self.ratio, "target", "met?")


_OTHERS = tuple(name for name in CONTENDERS if name != "ours")
TABLES = (
    Table("Through the client", CLIENT, (*_OTHERS, "ours"), "ratio"),
    Table("The bill of a fan-out", BILL, fan_out.COLUMNS, "ratio", fan_out.NOTE),
    Table("Caches by themselves", CACHES, (*_OTHERS, *PEERS, *OURS), "ratio to the best other"),
)
BEGIN, END = "<!-- begin measured -->", "<!-- end measured -->"
PACKAGES = ("msgspec", "httptools", "uvloop")

Measured = Sequence[tuple[Table, Sequence[Line]]]


def cells(table: Table, line: Line) -> tuple[str, ...]:
    """A line's cells, in Markdown."""
    ratio = line.ratio()
    bound = "at least " if ratio is not None and line.samples[line.against].at_least else ""
    return (
        line.work,
        *(line.samples.get(name, Sample(())).text(line.unit) for name in table.contenders),
        "-" if ratio is None else f"{bound}{ratio:,.{0 if ratio >= 20 else 2}f}x",
        line.target,
        {True: "yes", False: "**no**", None: "-"}[line.met],
    )


def show(measured: Measured, console: Console) -> None:
    """Print the tables."""
    for table, lines in measured:
        if lines:
            shown = RichTable(*table.columns, title=f"{table.title}: medians (lowest to highest)")
            for line in lines:
                shown.add_row(*(cell.replace("`", "").replace("**", "") for cell in cells(table, line)))
            console.print(shown)


def write(measured: Measured, path: Path, *, form: Form, capacity: float) -> None:
    """Replace what stands between the markers of a Markdown file."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path.name} lacks the markers {BEGIN} and {END}")
    parts = "\n\n".join((_circumstances(form, capacity), *(_markdown(table, lines) for table, lines in measured)))
    path.write_text(f"{before}{BEGIN}\n{parts}\n{END}{after}", encoding="utf-8")


def _markdown(table: Table, lines: Sequence[Line]) -> str:
    rows = [table.columns, ("---",) * len(table.columns), *(cells(table, line) for line in lines)]
    heading = f"### {table.title}\n" + (f"\n{table.note}\n" if table.note else "")
    return "\n".join((heading, *("| " + " | ".join(row) + " |" for row in rows)))


def _circumstances(form: Form, capacity: float) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    reference = CONTENDERS["reference"].requirement
    peers = ", ".join(f"{name} is {contender.requirement}" for name, contender in (PEERS | SDKS).items())
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "not known"
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} in the {form.name} form "
        f"({form.repetitions} repetitions, {form.slow_repetitions} of the long ones): "
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}. "
        f"Ours with {packages}; reference is {reference}, {peers}. The server can answer {capacity:,.0f} requests a "
        f"second on one core. Load average at the end, our own work included: {load}."
    )


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
