"""What was done to a cache, told in a few lines."""

from pathlib import Path
from typing import TYPE_CHECKING

from lm_deluge.cache.admin.housekeeping import Problem, PruneReport, VerifyReport
from lm_deluge.cache.entry import short_id
from lm_deluge.cli.table import Column, print_table
from lm_deluge.cli.terminal import say, shown
from lm_deluge.text import counted, money, size

if TYPE_CHECKING:
    from lm_deluge.cache.stores import RebuildReport

__all__ = ["print_check", "pruned", "rebuilt"]

_MOST_PROBLEMS = 50


def print_check(report: VerifyReport, location: str, *, fixing: bool, can_rebuild: bool) -> None:
    """What a check found: a row for each problem, and a sentence."""
    if report.problems:
        shown_here = report.problems[:_MOST_PROBLEMS]
        where = [short_id(bytes.fromhex(problem.key)) if problem.key else "the store" for problem in shown_here]
        what = [shown(problem.what) + _outcome(problem) for problem in shown_here]
        columns = [Column(name="where", cells=where), Column(name="what", cells=what, share=1, breaks=True)]
        print_table(columns)
        left = len(report.problems) - _MOST_PROBLEMS
        if left > 0:
            say(f"and {left:,} more; --json has them.")
    say(f"{location}: {_verdict(report)}{_advice(report, fixing=fixing, can_rebuild=can_rebuild)}")


def _outcome(problem: Problem) -> str:
    if problem.quarantined:
        return " (quarantined)"
    if problem.mended:
        return " (put right)"
    return " (the answer is whole, and is served)" if problem.served else ""


def _verdict(report: VerifyReport) -> str:
    read, *wrong = str(report).splitlines()
    return "\n".join([f"{read}:", *(f"  {line}" for line in wrong)]) if wrong else f"{read}, nothing wrong."


def _advice(report: VerifyReport, *, fixing: bool, can_rebuild: bool) -> str:
    remedies = [
        "--rebuild to rebuild the file" if report.store and can_rebuild else "",
        "--fix to quarantine damaged answers" if report.damaged and not fixing else "",
        "--fix to put right what is said of whole ones"
        if not report.damaged and not fixing and (report.requests or report.facts)
        else "",
    ]
    advice = " and ".join(filter(None, remedies))
    return f"\nUse {advice}." if advice else ""


def rebuilt(report: "RebuildReport", where: str) -> str:
    """What became of a file that was rebuilt."""
    lost = f"at least {report.lost:,} could not be read" if report.lost else "none is known to be lost"
    kept = Path(report.kept).name
    return (
        f"{where} was rebuilt with {counted(report.entries, 'entry', 'entries')}; {lost}. "
        f"The old file ({size(report.kept_bytes)}) is beside it: {kept}."
    )


def pruned(report: PruneReport) -> str:
    """What went, or would go."""
    if not report.entries:
        return f"Nothing to remove; {_kept(report)}."
    unpriced = f" (+ {counted(report.unpriced, 'answer')} of unknown price)" if report.unpriced else ""
    entries = counted(report.entries, "entry", "entries")
    return (
        f"{'Would remove' if report.dry_run else 'Removed'} {entries} ({size(report.bytes)}); "
        f"{_kept(report)}. To get the answers again would cost {money(report.cost)}{unpriced}."
    )


def _kept(report: PruneReport) -> str:
    stay = "would stay" if report.dry_run else "stays" if report.kept == 1 else "stay"
    return f"{report.kept:,} {stay}"
