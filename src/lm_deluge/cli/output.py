"""What the commands print beside tables: sentences for people, JSON for programs.

What is in an entry was written by a model or came from another file, so it goes through ``terminal.shown``
first, and is never read as markup.
"""

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from lm_deluge._printable import printable_json
from lm_deluge.cache.runs import Run
from lm_deluge.progress.line_breaks import wrapped

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["make_console", "plain", "print_json", "print_sentence"]


def make_console() -> "Console":
    """Standard output, for texts that are no markup."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def print_sentence(text: str) -> None:
    """Text that is broken between words in a terminal, never within a path, and nowhere for other programs."""
    make_console().print(wrapped(text, sys.stdout), soft_wrap=True)


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
