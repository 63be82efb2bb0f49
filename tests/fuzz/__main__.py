"""The fuzz run: ``python -m tests.fuzz [--minutes 60] [--only NAME] [--seed N]``.

``python -m tests.fuzz FILE`` repeats a case that it has written. Time is divided among the targets evenly. It ends with
status 1 where something was found that is not known.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

from . import targets
from .box import Box
from .campaign import Result, explore
from .known import why

_MOST_MEMORY = 3 << 30
_COLUMNS = ("target", "cases", "refused", "cases/s", "crashes", "hangs", "memory", "foreign", "wrong", "leaks")


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="cases to repeat; the folder of each names its target")
    parser.add_argument("--minutes", type=float, default=60.0, help="for all targets together (default: 60)")
    parser.add_argument("--only", action="append", metavar="NAME", help=f"a target: {', '.join(targets.NAMES)}")
    parser.add_argument("--seed", type=int, default=0, help="another number makes other cases (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="folder for inputs that show a fault")
    given = parser.parse_args()
    resource.setrlimit(
        resource.RLIMIT_AS, (_MOST_MEMORY, resource.RLIM_INFINITY)
    )  # what makes cases has to be bounded too
    return _repeat(given.files) if given.files else _campaign(given)


def _repeat(files: list[Path]) -> int:
    bad = 0
    with Box() as box:
        for file in files:
            verdict = box.run(file.resolve().parent.name, file.read_bytes())
            bad += verdict.is_bad
            print(f"{file}: {verdict.kind} {verdict.what}\n{verdict.details}")
    return int(bad > 0)


def _campaign(given: argparse.Namespace) -> int:
    names = given.only or targets.NAMES
    results: list[Result] = []
    with Box() as box:
        for name in names:
            if (missing := getattr(targets.load(name), "missing", lambda: None)()) is not None:
                print(f"{name}: left out, {missing}", flush=True)
                continue
            began = time.monotonic()
            share = given.minutes * 60 / len(names)
            results.append(result := explore(name, box, number=given.seed * 1_000_000, seconds=share, folder=given.out))
            print(
                f"{name}: {result.cases:,} cases, {len(result.findings)} findings, {time.monotonic() - began:.0f} s",
                flush=True,
            )
    _print_table(results)
    return int(_print_findings(results) > 0)


def _print_table(results: list[Result]) -> None:
    rows = [_COLUMNS, *(_row(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        print(
            "  ".join(
                cell.rjust(width) if at else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )


def _row(result: Result) -> tuple[str, ...]:
    counts = (("crash",), ("hang",), ("memory",), ("foreign",), ("wrong",), ("leak",))
    return (
        result.name,
        f"{result.cases:,}",
        f"{result.refused:,}",
        f"{result.cases / max(result.seconds, 0.001):,.0f}",
        *(str(result.count(*kinds)) for kinds in counts),
    )


def _print_findings(results: list[Result]) -> int:
    """Say what was found; how much of it is new."""
    new = 0
    for result in results:
        for finding in sorted(result.findings.values(), key=lambda finding: -finding.times):
            reason = why(result.name, finding.verdict)
            new += reason is None
            print(f"\n{result.name}: {finding.verdict.kind}: {finding.verdict.what} ({finding.times:,} cases)")
            print(f"  {'known: ' + reason if reason else 'new'}; {len(finding.data):,} bytes: {finding.data[:160]!r}")
            print(f"  repeat: python -m tests.fuzz {finding.path}")
            print("  " + "\n  ".join(finding.verdict.details.strip().splitlines()[-6:]))
    return new


if __name__ == "__main__":
    sys.exit(main())
