"""``deluge`` is interrupted, or told to end, while it starts, works or ends: it goes quietly, at any moment."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

# The console script, with a signal at a moment that does not depend on how quick the machine is: at one of the
# interpreter's audit events, of which each import, opened file and compiled module is one. Below 0: it says so then.
PROGRAM = """
import signal, sys
from lm_deluge.__main__ import main
at, kind = int(sys.argv[1]), int(sys.argv[2])
sys.argv = ["deluge", *sys.argv[3:]]
count = 0

def hook(event, arguments):
    global count
    count += 1
    if count == at:
        signal.raise_signal(kind)
    elif count == -at:
        print("begun", flush=True)

sys.addaudithook(hook)
main()
"""
COMMANDS = {
    "help": ["--help"],
    "look": ["cache", "stats", "nothing.db"],
    "run": ["run", "prompts.jsonl", "-m", "m", "--base-url", "http://127.0.0.1:9/v1", "--max-attempts", "1"],
}
ABOUT = {"help": 1_500, "look": 3_000, "run": 3_000}  # events before the end, or before the first request


def started(command: str, at: int, kind: signal.Signals, where: Path) -> "subprocess.Popen[str]":
    (where / "prompts.jsonl").write_text('"a"\n')
    arguments = [sys.executable, "-c", PROGRAM, str(at), str(int(kind)), *COMMANDS[command]]
    environ = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path)), "OPENAI_API_KEY": "k"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(arguments, text=True, cwd=where, env=environ, **pipes)


def interrupt(command: str, moments: Iterable[int], where: Path) -> None:
    def check(at: int) -> None:
        process = started(command, at, signal.SIGINT, where)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, len(err.splitlines()) < 2) == (130, True), f"event {at}: {err}"
        assert "Traceback" not in err

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(check, moments))


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interruption_of_the_start_is_a_quiet_end(command: str, tmp_path: Path) -> None:
    most = ABOUT[command]
    interrupt(command, (1, most // 10, most // 4, most // 2, most), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_an_interruption_at_any_moment_of_the_start_is_a_quiet_end(command: str, tmp_path: Path) -> None:
    interrupt(command, random.Random(1).sample(range(1, ABOUT[command]), 100), tmp_path)


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_from_outside_ends_it_at_once(kind: signal.Signals, code: int, tmp_path: Path) -> None:
    process = started("look", -10, kind, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(kind)
    _, err = process.communicate(timeout=60)
    # A busy machine may let it end first: it found no cache.
    assert (process.returncode, err) in ((code, ""), (2, "deluge: There is no cache at nothing.db.\n"))


def test_an_interruption_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As the shell has it for a job in the background of a script."""
    (tmp_path / "sitecustomize.py").write_text("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)")
    environ = {**os.environ, "PYTHONPATH": ":".join([str(tmp_path), *filter(None, sys.path)])}
    command = [sys.executable, "-c", PROGRAM, "500", str(int(signal.SIGINT)), "--version"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("lm_deluge ")
