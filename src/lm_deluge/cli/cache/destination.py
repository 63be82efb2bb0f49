"""Where ``deluge cache export`` writes to, and what is said of it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lm_deluge.cache.admin.archive import ExportReport
from lm_deluge.text import counted, size

__all__ = ["destination", "exported"]


@contextmanager
def destination(name: str) -> Iterator[Path | Callable[[bytes], object]]:
    """What ``archive.export`` takes. A pipe or a device is written as it is; a file appears when it is complete."""
    path = Path(name).expanduser()
    if name == "-":
        yield sys.stdout.buffer.write
        sys.stdout.flush()
    elif path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as stream:
            yield stream.write
    else:
        yield path


def exported(report: ExportReport, name: str) -> str:
    """A sentence with the size that the file has, and lines about what is not in it."""
    path = Path(name).expanduser()
    is_file = name != "-" and path.is_file()
    written = f"{counted(report.entries, 'entry', 'entries')} written" + (f" to {name}" if is_file else "")
    taken = size(path.stat().st_size if is_file else report.bytes)
    return "\n".join([f"{written} ({taken}).", *str(report).splitlines()[1:]])
