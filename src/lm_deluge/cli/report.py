"""What runs did and cost, side by side in a table."""

from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from lm_deluge.cli.table import Column, amount, filled, number, print_table, room, share
from lm_deluge.events import RunReport
from lm_deluge.text import NOTHING, rate

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_reports"]

_ALWAYS = ("prompts", "calls", "hits")

_Cell = Callable[[RunReport], str]

# Sections of facts. A fact for which no run has anything is left out.
_SECTIONS: tuple[tuple[tuple[str, _Cell], ...], ...] = (
    (
        ("prompts", lambda report: number(report.prompts)),
        ("calls", lambda report: number(report.calls)),
        ("hits", lambda report: number(report.hits)),
        ("retries", lambda report: number(report.retries)),
        ("errors", lambda report: number(report.errors)),
        ("hits of other requests", lambda report: number(report.hits_of_other_requests)),
        ("not stored", lambda report: number(report.not_stored)),
        ("damaged entries", lambda report: number(report.damaged_entries)),
    ),
    (
        ("input tokens", lambda report: number(report.usage.input_tokens)),
        ("cache write", lambda report: number(report.usage.cache_write_tokens)),
        ("cache read", lambda report: number(report.usage.cache_read_tokens)),
        ("read share", lambda report: share(report.prompt_cache_hit_ratio)),
        ("output tokens", lambda report: number(report.usage.output_tokens)),
    ),
    (
        ("paid", lambda report: amount(report.cost)),
        ("unpriced", lambda report: number(report.unpriced)),
        ("avoided by hits", lambda report: amount(report.cost_avoided)),
        ("saved by prompt cache", lambda report: amount(report.saved_by_prompt_cache)),
        ("wasted on avoidable writes", lambda report: amount(report.wasted_write_cost)),
    ),
    (
        ("seconds", lambda report: f"{report.seconds:.2g}" if report.seconds < 1 else f"{report.seconds:,.1f}"),
        ("prompts/s", lambda report: rate(report.prompts / report.seconds)[:-2] if report.seconds > 0 else NOTHING),
    ),
)


def print_reports(
    reports: Mapping[str, RunReport], console: "Console | None" = None, *, tall: bool | None = None
) -> None:
    """A table of runs, one in each row, or in each column if it is ``tall``: then several fit into 80 columns.

    Tokens are those that were paid for. An answer whose price is not known counts nothing as paid; how many there are
    is told.

    Args:
        reports: each run's report under its name; a single run needs none.
        console: where to print; None for standard error.
        tall: one run in each column; None for where the rows are too long.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False) if console is None else console
    sections = [_filled_facts(section, reports) for section in _SECTIONS]
    facts = [fact for section in sections for fact in section]
    rows = [Column(name="", cells=list(reports), bold=True), *facts] if any(reports) else facts
    if not (room(rows) > console.width if tall is None else tall):
        print_table(rows, console=console)
        return
    # Names and headings may be broken into lines, a number may not be cut.
    runs = [
        Column(name=name, cells=[fact.cells[index] for fact in facts], right=True, breaks=True)
        for index, name in enumerate(reports)
    ]
    names = Column(name="", cells=[fact.name for fact in facts], bold=True, share=1, breaks=True)
    ends = {end - 1 for end in accumulate(map(len, sections))}
    print_table([names, *runs], console=console, ends=ends)


def _filled_facts(section: tuple[tuple[str, _Cell], ...], reports: Mapping[str, RunReport]) -> list[Column]:
    columns = [Column(name=name, cells=[cell(each) for each in reports.values()], right=True) for name, cell in section]
    told = {column.name for column in filled(columns)}.union(_ALWAYS)
    return [column for column in columns if column.name in told]
