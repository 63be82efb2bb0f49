"""What was done to a cache, told in a few lines."""

from lm_deluge.cache.housekeeping import Problem, PruneReport, VerifyReport
from lm_deluge.cli.cache.printing import Column, entries_of, make_console, print_table, say, size
from lm_deluge.cli.terminal import shown
from lm_deluge.progress.text import count, money

__all__ = ["print_check", "print_pruned"]

_MOST_PROBLEMS = 50


def print_check(report: VerifyReport, location: str, *, fixing: bool, is_file: bool) -> None:
    """What a check found: a row for each problem, and a sentence."""
    if report.problems:
        shown_here = report.problems[:_MOST_PROBLEMS]
        where = [problem.key[:8] if problem.key else "the store" for problem in shown_here]
        what = [shown(problem.what) + _outcome(problem) for problem in shown_here]
        columns = [Column(name="where", cells=where), Column(name="what", cells=what, share=1, breaks=True)]
        print_table(make_console(), columns)
        left = len(report.problems) - _MOST_PROBLEMS
        if left > 0:
            say(f"and {left:,} more; --json has them.")
    say(f"{location}: {_verdict(report, fixing=fixing, is_file=is_file)}")


def _outcome(problem: Problem) -> str:
    if problem.set_aside:
        return " (set aside)"
    return " (the answer is whole, and is served)" if problem.served else ""


def _verdict(report: VerifyReport, *, fixing: bool, is_file: bool) -> str:
    read = f"{entries_of(report.entries)} read"
    found = [
        f"{count(report.store, 'problem')} of the store itself" if report.store else "",
        f"{count(report.damaged, 'damaged answer')}" if report.damaged else "",
        f"{count(report.requests, 'damaged request')}" if report.requests else "",
    ]
    told = ", ".join(filter(None, found))
    if not told:
        return f"{read}, nothing wrong."
    if report.set_aside:
        told += f"; {report.set_aside:,} set aside"
    remedies = [
        "--rebuild to make the file anew" if report.store and is_file else "",
        "--fix to set damaged answers aside" if report.damaged and not fixing else "",
    ]
    advice = " and ".join(filter(None, remedies))
    return f"{read}: {told}.{f' Use {advice}.' if advice else ''}"


def print_pruned(report: PruneReport) -> None:
    """What went, or would go."""
    if not report.entries:
        say(f"Nothing to remove; {_kept(report)}.")
        return
    unpriced = f" (+ {count(report.unpriced, 'answer')} of unknown price)" if report.unpriced else ""
    say(
        f"{'Would remove' if report.dry_run else 'Removed'} {entries_of(report.entries)} ({size(report.bytes)}); "
        f"{_kept(report)}. To get the answers again would cost {money(report.cost)}{unpriced}."
    )


def _kept(report: PruneReport) -> str:
    stay = "would stay" if report.dry_run else "stays" if report.kept == 1 else "stay"
    return f"{report.kept:,} {stay}"
