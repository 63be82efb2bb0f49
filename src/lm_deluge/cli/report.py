"""What runs did and cost, side by side."""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from lm_deluge.events import RunReport
from lm_deluge.text import money, rate

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["print_reports", "report_table"]

_NOTHING = "–"
_ALWAYS = ("prompts", "calls", "hits")

_Cell = Callable[[RunReport], str]


def _number(value: int) -> str:
    return f"{value:,}" if value else _NOTHING


def _dollars(value: float) -> str:
    return money(value) if abs(value) > 1e-9 else _NOTHING  # what is left of a difference is no money


def _share(value: float) -> str:
    return f"{value:.1%}" if value else _NOTHING


def _seconds(value: float) -> str:
    return f"{value:.2g}" if value < 1 else f"{value:,.1f}"


# Sections of rows; a row that no run has anything for is left out.
_SECTIONS: tuple[tuple[tuple[str, _Cell], ...], ...] = (
    (
        ("prompts", lambda report: _number(report.prompts)),
        ("calls", lambda report: _number(report.calls)),
        ("hits", lambda report: _number(report.hits)),
        ("retries", lambda report: _number(report.retries)),
        ("errors", lambda report: _number(report.errors)),
        ("not stored", lambda report: _number(report.not_stored)),
        ("damaged entries", lambda report: _number(report.damaged_entries)),
    ),
    (
        ("input tokens", lambda report: _number(report.usage.input_tokens)),
        ("cache write", lambda report: _number(report.usage.cache_write_tokens)),
        ("cache read", lambda report: _number(report.usage.cache_read_tokens)),
        ("read share", lambda report: _share(report.prompt_cache_hit_ratio)),
        ("output tokens", lambda report: _number(report.usage.output_tokens)),
    ),
    (
        ("paid", lambda report: _dollars(report.cost)),
        ("unpriced", lambda report: _number(report.unpriced)),
        ("avoided by hits", lambda report: _dollars(report.cost_avoided)),
        ("saved by prompt cache", lambda report: _dollars(report.saved_by_prompt_cache)),
        ("lost to avoidable writes", lambda report: _dollars(report.lost_to_writes)),
    ),
    (
        ("seconds", lambda report: _seconds(report.seconds)),
        ("prompts/s", lambda report: rate(report.prompts / report.seconds)[:-2] if report.seconds > 0 else _NOTHING),
    ),
)


def report_table(reports: Mapping[str, RunReport], *, tall: bool = False) -> "Table":
    """A table of runs, one in each row, or in each column if it is to be ``tall``: then several fit into 80 columns.

    Tokens are those that were paid for. An answer whose price is not known counts nothing as paid; how many there are
    is told.

    Args:
        reports: each run's report under its name; a single run needs none.
        tall: one run in each column.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    sections = _filled_sections(reports.values())
    if tall:
        table.show_header = any(reports)
        table.add_column("", style="bold")
        for number, name in enumerate(reports):
            # Names and headings may be broken into lines, a number may not be cut.
            widths = [len(cells[number]) for section in sections for _, cells in section]
            table.add_column(name, justify="right", width=max(widths + [len(word) for word in name.split()]))
        for section in sections:
            for name, cells in section:
                table.add_row(name, *cells, end_section=name == section[-1][0])
        return table
    if any(reports):
        table.add_column("", style="bold")
    for section in sections:
        for name, _ in section:
            table.add_column(name, justify="right", no_wrap=True)
    for number, run in enumerate(reports):
        cells = [column[number] for section in sections for _, column in section]
        table.add_row(*([run] if any(reports) else []), *cells)
    return table


def print_reports(reports: Mapping[str, RunReport]) -> None:
    """The table on standard error, wide where there is room for it."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    table = report_table(reports)
    if console.measure(table, options=console.options.update(width=1_000)).maximum > console.width:
        table = report_table(reports, tall=True)
    console.print(table)


def _filled_sections(reports: Collection[RunReport]) -> list[list[tuple[str, list[str]]]]:
    """Names and cells, without what no run has anything for."""
    sections = []
    for section in _SECTIONS:
        rows = [(name, [cell(report) for report in reports]) for name, cell in section]
        filled = [(name, cells) for name, cells in rows if name in _ALWAYS or set(cells) != {_NOTHING}]
        if filled:
            sections.append(filled)
    return sections
