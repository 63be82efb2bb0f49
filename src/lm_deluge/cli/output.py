"""What the commands print: tables and sentences for people, JSON for programs.

What is in an entry was written by a model or came from somebody else's file, so it goes through ``terminal.shown``
first, and is never read as markup.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from rich.cells import cell_len

from lm_deluge._printable import printable_json
from lm_deluge.cache.runs import Run
from lm_deluge.progress.line_breaks import wrapped

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "Column",
    "make_console",
    "plain",
    "print_json",
    "print_sentence",
    "print_table",
]

_LEAST_WIDTH = 4
_GAP = 2  # between two columns


def make_console() -> "Console":
    """Standard output, for texts that are no markup."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def print_sentence(console: "Console", text: str) -> None:
    """Text that is broken between words in a terminal, never within a path, and nowhere for other programs."""
    console.print(wrapped(text, sys.stdout), soft_wrap=True)


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a table.

    Attributes:
        name: its heading.
        cells: one for each row.
        right: whether it holds numbers.
        share: for texts that may be cut or broken: how much of the room they get; 0 for what has to be shown whole.
        breaks: break long cells into lines rather than cutting them.
        rank: how much it matters; where there is no room for all columns, those with the highest number go first. 0
            for what always stays.
    """

    name: str
    cells: Sequence[str]
    right: bool = False
    share: int = 0
    breaks: bool = False
    rank: int = 0

    @property
    def width(self) -> int:
        """What it takes to show all of it."""
        return max(map(cell_len, (self.name, *self.cells)))

    @property
    def least_width(self) -> int:
        """What it takes to be worth showing."""
        return min(self.width, 8 + 8 * self.share) if self.share else self.width


def print_table(console: "Console", columns: Sequence[Column], *, bold: int | None = None) -> None:
    """A table with as many of the columns as there is room for. Cells are texts, never markup.

    Args:
        console: where to print.
        columns: all of the same length.
        bold: the row to emphasize.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    kept = list(columns)
    while sum(column.least_width + _GAP for column in kept) > console.width:
        least = max(kept, key=lambda column: column.rank)
        if not least.rank:
            break
        kept.remove(least)
    widths = _widths(kept, console.width - _GAP * len(kept))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column, width in zip(kept, widths, strict=True):
        table.add_column(
            column.name,
            justify="right" if column.right else "left",
            no_wrap=not column.breaks,
            overflow="fold" if column.breaks else "ellipsis",
            width=width,
        )
    for number, row in enumerate(zip(*(column.cells for column in kept), strict=True)):
        table.add_row(*map(Text, row), style="bold" if number == bold else None)
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


def plain(value: Any) -> Any:
    """Plain data for JSON. Structs keep all of their fields, so that rows have the same columns."""
    if isinstance(value, msgspec.Struct):
        fields = {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        # Ids of runs are larger than the numbers of many JSON readers.
        return {**fields, "id": str(value.id)} if isinstance(value, Run) else fields
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    return value.hex() if isinstance(value, bytes) else value


def print_json(value: Any) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(printable_json(msgspec.json.encode(plain(value))).decode() + "\n")
