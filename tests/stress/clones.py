"""Run the tests in fresh clones, as somebody would who has just found the project.

``python -m tests.stress.clones 10 --busy 4 --days-ahead 200`` clones what is committed ten times, one clone after
another, installs what ``make test`` installs, and runs ``make test`` beside processes that keep the cores busy, on
another day if asked. It prints a line for each run, says what failed, and ends with status 1 if anything did. What a
failing run printed is kept.

The other day is told by a small library that is loaded before all others (Linux, with a C compiler): it moves the time
of day and leaves alone every clock that only measures. Files keep the time at which they were really written.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.stress.driving import ROOT, busy_cores

AHEAD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long ahead(void) {
    const char *days = getenv("DAYS_AHEAD");
    return days ? atol(days) * 86400L : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *told) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told) *told = now.tv_sec;
    return now.tv_sec;
}
"""


def ahead(days: int, directory: Path) -> dict[str, str]:
    """Environment variables for processes whose day is another."""
    if not days:
        return {}
    source, library = directory / "ahead.c", directory / "ahead.so"
    source.write_text(AHEAD)
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "DAYS_AHEAD": str(days)}


def run(command: list[str], directory: Path, log: Path, variables: Mapping[str, str], seconds: float) -> str:
    """What became of a command: "passed", its exit status, or that it took too long. Its output goes to ``log``."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=directory, stdout=output, stderr=output, env=inherited | variables, start_new_session=True
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"took more than {seconds:,.0f} s"
    return "passed" if status == 0 else f"status {status}"


def clone(number: int, options: argparse.Namespace, directory: Path, variables: Mapping[str, str]) -> bool:
    """Clone, install, test, and say how it went."""
    place, log = directory / f"clone-{number}", options.logs / f"clone-{number}.log"
    log.unlink(missing_ok=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, place], check=True)
    outcome = run(["make", ".venv/.dev"], place, log, {}, options.seconds)  # on the real day, for its certificates
    if outcome != "passed":
        print(f"{number}: not installed: {outcome}; see {log}", flush=True)
        return False
    began = time.monotonic()
    with busy_cores(options.busy):
        outcome = run(["make", "test", *options.make], place, log, variables, options.seconds)
    seconds, said = time.monotonic() - began, log.read_text(errors="replace")
    summary = re.findall(r"^.*\d+ passed.*$", said, re.MULTILINE)[-1:]
    print(f"{number}: {outcome} in {seconds:,.0f} s; {' '.join(summary).strip('= ')}", flush=True)
    if outcome == "passed":
        log.unlink()
        subprocess.run(["rm", "-rf", place], check=True)
        return True
    for line in re.findall(r"^(?:FAILED|ERROR) \S.*$", said, re.MULTILINE):
        print(f"    {line}", flush=True)
    print(f"    see {log}", flush=True)
    return False


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress.clones", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("count", type=int, help="how many clones, one after the other")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="processes that keep cores busy meanwhile")
    parser.add_argument("--days-ahead", type=int, default=0, metavar="N", help="what day it is for the tests")
    parser.add_argument("--seconds", type=float, default=3_600, help="after which a run has failed (%(default)s)")
    parser.add_argument(
        "--logs", type=Path, default=Path(tempfile.gettempdir()), help="where failing runs leave theirs"
    )
    parser.add_argument("--make", nargs="*", default=[], metavar="NAME=VALUE", help="for make, such as WORKERS=2")
    options = parser.parse_args()
    options.logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        variables = ahead(options.days_ahead, Path(place))
        passed = [clone(number, options, Path(place), variables) for number in range(1, options.count + 1)]
    print(f"{sum(passed)} of {options.count} passed")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
