"""Tables on a terminal: as many columns as there is room for, numbers whole, long texts cut or broken."""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
from rich.cells import cell_len

from lm_deluge.cli.output import make_console
from lm_deluge.text import NOTHING, money

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Column", "amount", "amounts", "filled", "number", "numbers", "print_table", "room", "share"]

_LEAST_WIDTH = 4
_GAP = 2  # between two columns


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a table.

    Attributes:
        name: its heading.
        cells: one for each row.
        right: whether it holds numbers.
        bold: whether its cells are emphasized.
        share: for texts that may be cut or broken: how much of the room they get; 0 for what has to be shown whole.
        breaks: break the heading and long cells into lines rather than cutting them.
        rank: how much it matters; where there is no room for all columns, those with the highest number go first. 0
            for what always stays.
    """

    name: str
    cells: Sequence[str]
    right: bool = False
    bold: bool = False
    share: int = 0
    breaks: bool = False
    rank: int = 0

    @property
    def width(self) -> int:
        """What it takes to show all of it."""
        heading = self.name.split() if self.breaks else [self.name]
        return max(map(cell_len, (*heading, *self.cells)), default=0)

    @property
    def least_width(self) -> int:
        """What it takes to be worth showing."""
        return min(self.width, 8 + 8 * self.share) if self.share else self.width


def number(value: int) -> str:
    """A cell: ``1,319``, and a dash for zero."""
    return f"{value:,}" if value else NOTHING


def amount(dollars: float) -> str:
    """A cell: ``$0.0123``, and a dash for nothing."""
    told = money(dollars)
    return NOTHING if told == "$0" else told


def share(value: float) -> str:
    """A cell: ``31.7%``, and a dash for zero."""
    return f"{value:.1%}" if value else NOTHING


def numbers(name: str, values: Iterable[int], *, rank: int = 0) -> Column:
    """A column of counts."""
    return Column(name=name, cells=[number(value) for value in values], right=True, rank=rank)


def amounts(name: str, values: Iterable[float]) -> Column:
    """A column of US dollars."""
    return Column(name=name, cells=[amount(value) for value in values], right=True)


def filled(columns: Iterable[Column]) -> list[Column]:
    """Those that have anything to tell."""
    return [column for column in columns if set(column.cells) != {NOTHING}]


def room(columns: Sequence[Column]) -> int:
    """Columns of a terminal that it takes to show all of a table."""
    return sum(column.width + _GAP for column in columns)


def print_table(
    columns: Sequence[Column], *, console: "Console | None" = None, bold: int | None = None, ends: Collection[int] = ()
) -> None:
    """A table with as many of the columns as there is room for. Cells are texts, never markup.

    The row ``bold`` is emphasized, and ``ends`` are the rows that are the last of a section.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = make_console() if console is None else console
    kept = list(columns)
    while sum(column.least_width + _GAP for column in kept) > console.width:
        least = max(kept, key=lambda column: column.rank)
        if not least.rank:
            break
        kept.remove(least)
    widths = _widths(kept, console.width - _GAP * len(kept))
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_header=any(column.name for column in kept)
    )
    for column, width in zip(kept, widths, strict=True):
        table.add_column(
            column.name,
            justify="right" if column.right else "left",
            style="bold" if column.bold else None,
            no_wrap=not column.breaks,
            overflow="fold" if column.breaks else "ellipsis",
            width=width,
        )
    for index, row in enumerate(zip(*(column.cells for column in kept), strict=True)):
        table.add_row(*map(Text, row), style="bold" if index == bold else None, end_section=index in ends)
    console.print(table)


def _widths(columns: Sequence[Column], room: int) -> list[int]:
    """All of what cannot be cut, and the rest divided among the others, none getting more than it needs."""
    widths = {number: column.width for number, column in enumerate(columns) if not column.share}
    room -= sum(widths.values())
    cut = [(column.width / column.share, number) for number, column in enumerate(columns) if column.share]
    shares = sum(column.share for column in columns)
    for _, number in sorted(cut):
        column = columns[number]
        widths[number] = max(min(column.width, room * column.share // shares), _LEAST_WIDTH)
        room -= widths[number]
        shares -= column.share
    return [widths[number] for number in range(len(columns))]
