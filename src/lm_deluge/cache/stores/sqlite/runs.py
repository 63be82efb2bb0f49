"""The accounts of runs as rows, with the figures that people ask for in columns of their own."""

import sqlite3
from typing import Any

import msgspec

from lm_deluge._json import JsonReader, NotJson
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores.sqlite.walk import placeholders, walk
from lm_deluge.events import RunReport

__all__ = ["read_runs", "record_run"]

_FIGURES = ("prompts", "calls", "hits", "errors", "cost", "cost_avoided")
_IMPORTED = b'{"imported": true}'  # in place of the report of a run that came with entries from elsewhere


def record_run(writer: sqlite3.Connection, run: Run) -> None:
    """Store a run in place of the one with its id. The caller has a transaction."""
    report = run.report
    row: dict[str, Any] = {
        "id": run.id,
        "started": run.started,
        "name": run.name,
        "tags": msgspec.json.encode(run.tags).decode(),
        "models": msgspec.json.encode(run.models).decode(),
    }
    if report is not None:
        row |= {name: getattr(report, name) for name in _FIGURES}
        row["report"] = msgspec.json.encode(report).decode()
    elif run.imported:
        row["report"] = _IMPORTED.decode()
    writer.execute(
        f"INSERT OR REPLACE INTO runs ({', '.join(row)}) VALUES ({placeholders(len(row))})",  # noqa: S608
        list(row.values()),
    )


def read_runs(reader: sqlite3.Connection) -> list[Run]:
    """All runs that can be read, the newest first."""
    found = [_run(*row) for row in walk(reader, "runs", "started, name, tags, models, report")]
    return sorted(found, key=lambda run: run.started, reverse=True)


def _run(number: int, started: Any, name: Any, tags: Any, models: Any, report: Any) -> Run:
    return Run(
        id=number,
        started=started if isinstance(started, float) else 0.0,
        name=name.decode(errors="replace") if isinstance(name, bytes) else None,
        tags=_decoded(tags, tuple[str, ...], ()),
        models=_decoded(models, tuple[str, ...], ()),
        report=None if report == _IMPORTED else _decoded(report, RunReport | None, None),
        imported=report == _IMPORTED,
    )


def _decoded(cell: Any, kind: Any, otherwise: Any) -> Any:
    # Damaged columns are left out, and the rest of the run is shown.
    try:
        return otherwise if cell is None else JsonReader(kind).read(cell)
    except (NotJson, TypeError):
        return otherwise
