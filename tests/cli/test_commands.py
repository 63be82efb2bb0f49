"""Help, version, the emulator and the demo."""

import inspect
import json
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import threading
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from lm_deluge._version import __version__
from lm_deluge.cli import demo
from lm_deluge.cli.report import print_reports
from lm_deluge.events import RunReport
from lm_deluge.usage import Usage

from .conftest import PACKAGE, Deluge

HEAVY = ("lm_deluge.client", "msgspec", "asyncio", "sqlite3", "httptools", "genai_prices", "uvloop", "starlette")


CACHE_COMMANDS = (
    "stats",
    "list",
    "show",
    "explain",
    "drift",
    "verify",
    "prune",
    "delete",
    "reject",
    "restore",
    "export",
    "import",
    "rekey",
)


@pytest.mark.parametrize(
    ("arguments", "commands"),
    [
        (["--help"], ("run", "simulate", "cache", "emulate", "demo")),
        (["cache", "--help"], CACHE_COMMANDS),
        (["cache", "explain", "--help"], ()),
        (["run", "--help"], ()),
        (["simulate", "--help"], ()),
    ],
)
def test_help_lists_the_commands_and_is_quick(arguments: list[str], commands: tuple[str, ...]) -> None:
    program = (
        f"import sys; sys.argv = ['deluge', *{arguments}]\n"
        "from lm_deluge.cli import main\n"
        "try: main()\n"
        f"finally: print('loaded:', [name for name in {HEAVY} if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": PACKAGE}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert all(re.search(rf"│ {command} ", done.stdout) for command in commands)
    assert done.stdout.endswith("loaded: []\n")


@pytest.mark.parametrize(
    "command", ["run", "simulate", "emulate", "demo", "cache", *(f"cache {name}" for name in CACHE_COMMANDS)]
)
def test_help_fits_into_80_columns(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lm_deluge", *command.split(), "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGE, "COLUMNS": "80"},
        check=True,
    )
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "…" not in done.stdout


@pytest.mark.parametrize("columns", ["0", "", "00"])
def test_no_columns_are_not_taken_at_their_word(columns: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lm_deluge", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGE, "COLUMNS": columns},
        check=True,
    )
    assert "Usage: deluge" in done.stdout


def test_version(deluge: Deluge) -> None:
    assert deluge("--version").stdout == f"lm_deluge {__version__}\n"


def test_the_emulator_says_what_to_export_and_answers(deluge: Deluge) -> None:
    process = deluge.start("emulate", "--port", "0")
    watchdog = threading.Timer(20, process.kill)
    watchdog.start()
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    exported = dict(re.findall(r"(\w+)=(\S+)", "".join(lines)))
    assert set(exported) == {"OPENAI_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"}
    assert exported["OPENAI_BASE_URL"] == exported["ANTHROPIC_BASE_URL"] + "/v1"

    request = urllib.request.Request(
        exported["OPENAI_BASE_URL"] + "/chat/completions",
        data=json.dumps({"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "a"}]}).encode(),
        headers={"Authorization": f"Bearer {exported['OPENAI_API_KEY']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["choices"][0]["message"]["content"]

    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    watchdog.cancel()
    assert (process.returncode, err) == (0, "")


def test_a_command_that_does_not_exist_names_the_nearest(deluge: Deluge) -> None:
    done = deluge.command("rnu")
    assert (done.returncode, done.stderr) == (
        2,
        "deluge: No such command 'rnu'. Did you mean 'run'? See `deluge --help`.\n",
    )


def test_a_port_that_is_taken_is_one_clear_line(deluge: Deluge, emulator: object) -> None:
    port = os.environ["ANTHROPIC_BASE_URL"].rpartition(":")[2]
    done = deluge("emulate", "--port", port)
    assert done.returncode == 2
    assert done.stderr.startswith(f"deluge: cannot listen on 127.0.0.1:{port}")


def test_the_demo_shows_calls_then_hits_and_both_savings(deluge: Deluge) -> None:
    done = deluge("demo", "--latency", "0")
    assert done.returncode == 0, done.stderr
    said = done.stderr
    assert re.search(r"^1,319 prompts in .*: 1,319 calls, \$0\.\d+ paid\.$", said, re.M)
    assert re.search(r"^1,319 prompts from the cache in .*: \$0 paid, \$0\.\d+ saved\.$", said, re.M)
    assert re.search(r"^100 prompts in .*: 100 calls", said, re.M)
    assert re.search(r"^100 prompts from the cache", said, re.M)
    assert re.search(r"cache write +– +– +– +– +[\d,]+ +16,\d{3} *$", said, re.M), "one request writes the prefix"
    assert re.search(r"cache read +– +– +– +– +[\d,]+ +3,\d{3},\d{3} *$", said, re.M), "and the others read it"
    assert re.search(r"errors", said) is None
    assert 'client.process_prompts_sync(["What is 2+2?"] * 100)' in done.stdout
    assert re.search(r"^1 prompt from the cache", said, re.M), "offline"
    assert 'asked "What is 2+3?", stored "What is 2+2?"' in done.stdout
    assert "nothing was paid" in done.stdout


def test_the_demo_shows_code_that_80_columns_hold() -> None:
    """What is broken into lines is no longer code: least of all a comment."""
    source = "".join(textwrap.dedent(inspect.getsource(run).partition("\n")[2]) for _, run, _ in demo._STEPS)
    assert source.count("# ") >= 2
    assert max(map(len, source.splitlines())) <= 80 - 2 * 2


def test_messages_are_broken_between_words_in_a_terminal_and_nowhere_else(
    deluge: Deluge, tmp_path: Path, write_prompts: Callable[..., Path]
) -> None:
    write_prompts("a")
    arguments = ("simulate", "prompts.jsonl", "-m", "o3", "--cache-pattern", "all")
    piped = deluge(*arguments).stderr
    assert piped.count("\n") == 1
    screen, slave = pty.openpty()
    process = deluge.start(*arguments, stderr=slave)  # 100 columns
    os.close(slave)
    seen = b""
    with suppress(OSError), os.fdopen(screen, "rb", buffering=0) as reader:  # the other end of a terminal is gone
        while block := reader.read(65536):
            seen += block
    assert process.wait(20) == 2
    lines = seen.decode().replace("\r\n", "\n").splitlines()
    assert " ".join(line.strip() for line in lines) == piped.strip()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 100
    assert all(line.startswith("  ") for line in lines[1:])


def test_help_shows_no_type_where_nothing_is_given(deluge: Deluge) -> None:
    for command in ("run", "simulate", "cache prune", "cache import"):
        lines = deluge.command(*command.split(), "--help", columns=120).stdout.splitlines()
        assert not [line for line in lines if re.search("bool", line, re.I) and "--help" not in line]


def test_help_says_what_becomes_of_fields_progress_and_patterns(deluge: Deluge) -> None:
    said = " ".join(re.sub("[│╭╮╰╯─]", " ", deluge.command("run", "--help", columns=100).stdout).split())
    assert "All other fields, id among them, are not sent, but passed through to the results." in said
    assert "none leaves out the bill at the end too." in said
    assert "deluge run prompts.jsonl -m claude-haiku-4-5 --cache-pattern shared_prefix" in said


def test_usage_marks_what_may_be_left_out_once(deluge: Deluge) -> None:
    for command, argument in (("explain", "PROMPTS"), ("delete", "KEY")):
        usage = next(line for line in deluge.cache(command, "--help").stdout.splitlines() if "Usage:" in line)
        assert usage.count(argument) == 1
        assert "[[" not in usage


# Tables

REPORT = RunReport(
    prompts=1_000_000,
    calls=1_002_334,
    hits=12,
    retries=2_334,
    usage=Usage(input_tokens=3_000_000_000, cache_read_tokens=20_000_000_000, output_tokens=400_000_000),
    cost=12_345.6,
    cost_avoided=2.345,
    cost_without_prompt_caching=99_999.1,
    wasted_write_cost=0.125,
    unpriced=3,
    seconds=8_123.4,
)


def printed(reports: dict[str, RunReport], *, tall: bool, width: int) -> list[str]:
    console = Console(width=width)
    with console.capture() as captured:
        print_reports(reports, console, tall=tall)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_tall_table_of_large_runs_fits_into_80_columns() -> None:
    lines = printed({"first run of many": REPORT, "second": REPORT, "third": RunReport()}, tall=True, width=80)
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    cells = {tuple(re.split(r"\s{2,}", line.strip())) for line in lines}
    assert ("cache read", "20,000,000,000", "20,000,000,000", "–") in cells
    assert ("read share", "87.0%", "87.0%", "–") in cells
    assert ("saved by prompt cache", "$87,654", "$87,654", "–") in cells
    assert ("wasted on avoidable writes", "$0.1250", "$0.1250", "–") in cells
    assert ("unpriced", "3", "3", "–") in cells
    assert not any(cell[0] in ("errors", "cache write") for cell in cells), "nothing to tell"


def test_numbers_stay_whole_where_six_runs_have_80_columns() -> None:
    usage = Usage(input_tokens=12_212, cache_read_tokens=3_251_660, cache_write_tokens=16_340)
    report = RunReport(usage=usage, cost=0.4296, cost_without_prompt_caching=3.3, wasted_write_cost=0.0204)
    lines = printed({f"run number {number}": report for number in range(6)}, tall=True, width=80)
    assert max(map(len, lines)) <= 80
    for number in ("12,212", "3,251,660", "16,340", "99.1%", "$0.4296", "$2.87", "$0.0204"):
        assert any(line.count(number) == 6 for line in lines), number


def test_what_is_left_of_a_difference_is_no_money() -> None:
    """Sums of the same prices, added up in another order."""
    report = RunReport(prompts=3, cost=0.1 + 0.2, cost_without_prompt_caching=0.3)
    assert not any("saved" in line for line in printed({"": report}, tall=True, width=80))


def test_a_single_run_needs_no_name() -> None:
    _, head, _, row, *_ = printed({"": REPORT}, tall=False, width=250)
    values = dict(zip(re.split(r"\s{2,}", head.strip()), re.split(r"\s{2,}", row.strip()), strict=True))
    assert values["prompts"] == "1,000,000"
    assert values["paid"] == "$12,346"
    assert values["prompts/s"] == "123"
