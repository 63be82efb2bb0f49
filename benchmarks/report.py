"""The table, for the terminal and for the documentation."""

import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.bench import Form
from benchmarks.contenders import CONTENDERS
from benchmarks.figures import Line, Sample

__all__ = ["show", "write"]

_OTHERS = tuple(name for name in CONTENDERS if name != "ours")
COLUMNS = ("work", *_OTHERS, "ours", "ratio", "target", "met?")
BEGIN, END = "<!-- begin measured -->", "<!-- end measured -->"
PACKAGES = ("msgspec", "pyreqwest", "uvloop")


def cells(line: Line) -> tuple[str, ...]:
    """A line's cells, in Markdown."""
    ratio = line.ratio()
    bound = "at least " if ratio is not None and line.samples[line.against].at_least else ""
    return (
        line.work,
        *(line.samples.get(name, Sample(())).text(line.unit) for name in (*_OTHERS, "ours")),
        "-" if ratio is None else f"{bound}{ratio:,.{0 if ratio >= 20 else 2}f}x",
        line.target,
        "yes" if line.met else "**no**",
    )


def show(lines: Sequence[Line], console: Console) -> None:
    """Print the table."""
    table = Table(*COLUMNS, title="medians (lowest to highest)")
    for line in lines:
        table.add_row(*(cell.replace("`", "").replace("**", "") for cell in cells(line)))
    console.print(table)


def write(lines: Sequence[Line], path: Path, *, form: Form, capacity: float) -> None:
    """Replace what stands between the markers of a Markdown file."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path.name} lacks the markers {BEGIN} and {END}")
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(cells, lines)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    path.write_text(f"{before}{BEGIN}\n{_circumstances(form, capacity)}\n\n{table}\n{END}{after}", encoding="utf-8")


def _circumstances(form: Form, capacity: float) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    others = ", ".join(contender.requirement for contender in CONTENDERS.values() if contender.requirement)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "not known"
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} in the {form.name} form "
        f"({form.repetitions} repetitions, {form.slow_repetitions} of the long ones): "
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}. "
        f"Reference: {others}. Ours with {packages}. The server can answer {capacity:,.0f} requests a second on one "
        f"core. Load average at the end, our own work included: {load}."
    )


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
