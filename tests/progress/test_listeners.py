import asyncio
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest
from rich.console import Console

from lm_deluge.errors import ConfigError
from lm_deluge.events import (
    AnswerReceived,
    CoolDown,
    Event,
    HitsServed,
    RetryScheduled,
    RunFinished,
    RunReport,
    RunStarted,
)
from lm_deluge.progress import ProgressStyle, listener
from lm_deluge.progress._live import draw
from lm_deluge.progress._tally import Tally
from lm_deluge.testing import FakeClock
from lm_deluge.usage import Usage

ANSWER = AnswerReceived(0.001, Usage(input_tokens=10))
REPORT = RunReport(prompts=10, hits=6, calls=4, cost=0.004, cost_avoided=0.03, seconds=2.0)


def tally(*events: Event, clock: FakeClock | None = None) -> Tally:
    tallied = Tally(clock or FakeClock())
    for event in events:
        tallied.add(event)
    return tallied


def drawn(tallied: Tally, width: int) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(draw(tallied, width, "*"), end="")
    return captured.get()


# The sums


def test_hits_come_in_batches_and_errors_are_no_cost() -> None:
    tallied = tally(
        RunStarted(1000, ("m",)),
        HitsServed(500, 1.5),
        HitsServed(2, 0.5),
        ANSWER,
        AnswerReceived(None, None, "refused"),
        AnswerReceived(None, Usage()),
        RetryScheduled(1, 2.0, "429"),
    )
    assert (tallied.done, tallied.hits, tallied.errors, tallied.retries) == (505, 502, 1, 1)
    assert (tallied.cost, tallied.cost_avoided, tallied.unpriced) == (0.001, 2.0, 1)


def test_the_rate_forgets_the_hits_at_the_start() -> None:
    clock = FakeClock()
    tallied = tally(RunStarted(10_000, ("m",)), HitsServed(5000, 1.0), clock=clock)
    for _ in range(120):
        clock.advance(0.5)
        tallied.add(ANSWER)
    assert 1.9 < tallied.per_second < 2.1
    assert tallied.remaining is not None
    assert 2300 < tallied.remaining < 2600  # 4,880 are left at 2 a second


def test_when_all_are_done_no_time_is_left() -> None:
    clock = FakeClock()
    tallied = tally(RunStarted(2, ("m",)), clock=clock)
    clock.advance(1)
    tallied.add(ANSWER)
    assert tallied.remaining == 1.0
    tallied.add(ANSWER)
    assert tallied.remaining is None


def test_a_stream_has_no_end_in_sight() -> None:
    clock = FakeClock()
    tallied = tally(RunStarted(None, ("m",)), clock=clock)
    clock.advance(1)
    tallied.add(ANSWER)
    assert tallied.remaining is None
    assert tallied.position == "1"


def test_the_longest_pause_is_told_until_it_is_over() -> None:
    clock = FakeClock()
    tallied = tally(CoolDown("gpt-4.1-mini", 12, "429"), CoolDown("claude-haiku-4-5", 3, "529"), clock=clock)
    assert tallied.pause == "pausing 12 s: gpt-4.1-mini asked for it (429)"
    clock.advance(11.5)
    assert tallied.pause == "pausing 1 s: gpt-4.1-mini asked for it (429)"
    clock.advance(0.5)
    assert tallied.pause is None
    tallied.add(CoolDown("claude-haiku-4-5", 1, "529"))
    assert tallied.pause == "pausing 1 s: claude-haiku-4-5 asked for it (529)"


# Plain lines


def test_a_line_every_ten_seconds_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    listen = listener("manual", clock=clock)
    listen(RunStarted(1000, ("m",)))
    listen(HitsServed(80, 0.03))
    for _ in range(40):
        clock.advance(0.5)
        listen(AnswerReceived(0.0003, Usage()))
    listen(RunFinished(REPORT))
    listen.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "100/1,000 prompts, 80 hits, 0 errors, $0.0060 paid, $0.0300 avoided, 10/s",
        "120/1,000 prompts, 80 hits, 0 errors, $0.0120 paid, $0.0300 avoided, 6.0/s",
        "Stopped, 990 left. 10 prompts in 2.0 s (5.0/s): 6 hits, 4 calls, $0.0040 paid, $0.0300 avoided.",
    ]


def test_a_run_that_did_not_finish_says_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    listen = listener("manual", clock=clock)
    listen(RunStarted(3, ("m",)))
    clock.advance(1)
    listen(ANSWER)
    listen.close()
    listen.close()
    assert capsys.readouterr().err == ("Stopped: 1/3 prompts, 0 hits, 0 errors, $0.0010 paid, $0 avoided, 1.0/s.\n")


def test_a_run_that_did_not_start_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    listener("manual").close()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("style", ["rich", "manual", "tqdm"])
@pytest.mark.parametrize("finished", [False, True])
def test_a_caller_that_tells_itself_what_was_done_gets_no_summary(
    style: ProgressStyle, finished: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = FakeClock()
    listen = listener(style, clock=clock, summary=False)
    listen(RunStarted(10, ("m",)))
    clock.advance(31)
    listen(ANSWER)
    if finished:
        listen(RunFinished(REPORT))
    listen.close()
    err = capsys.readouterr().err
    assert "1/10" in err, "how far it is still shows"
    assert "Stopped" not in err
    assert "10 prompts in" not in err


def test_rich_writes_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    listen = listener("rich", clock=clock)
    listen(RunStarted(10, ("m",)))
    for _ in range(6):
        clock.advance(5.5)
        listen(ANSWER)
    listen(RunFinished(REPORT))
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert [line.partition(",")[0] for line in err.splitlines()] == [
        "6/10 prompts",  # the first line comes after 30 seconds
        "10 prompts in 2.0 s (5.0/s): 6 hits",
    ]


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ConfigError, match="use one of rich, tqdm, manual"):
        listener("fancy")  # type: ignore[arg-type]


# tqdm


def test_tqdm_counts_everything_and_ends_with_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    listen = listener("tqdm", clock=clock)
    listen(RunStarted(10, ("m",)))
    listen(HitsServed(6, 0.03))
    for _ in range(4):
        listen(ANSWER)
    listen(RunFinished(REPORT))
    listen.close()
    out, err = capsys.readouterr()
    assert out == ""
    *_, bar, summary, end = re.split("[\r\n]", err)
    assert "10/10" in bar
    assert bar.endswith("$0.0040 paid, $0.0300 avoided, 6 hits]")
    assert summary == "10 prompts in 2.0 s (5.0/s): 6 hits, 4 calls, $0.0040 paid, $0.0300 avoided."
    assert end == ""


def test_tqdm_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        listener("tqdm")


# The live line


@pytest.mark.parametrize("total", [None, 0, 1, 250_000])
@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
def test_the_line_is_one_line_at_any_width(total: int | None, width: int) -> None:
    clock = FakeClock()
    tallied = tally(
        RunStarted(total, ("m",)),
        HitsServed(120_000, 30.0),
        AnswerReceived(12.5, Usage()),
        AnswerReceived(None, None, "boom"),
        RetryScheduled(1, 1.0, "429"),
        clock=clock,
    )
    clock.advance(30)
    tallied.add(ANSWER)
    line = drawn(tallied, width)
    assert "\n" not in line.rstrip("\n")
    assert len(line.rstrip()) <= width


def test_the_line_tells_all_where_there_is_room() -> None:
    clock = FakeClock()
    tallied = tally(RunStarted(400, ("m",)), HitsServed(100, 0.5), RetryScheduled(1, 1.0, "429"), clock=clock)
    for _ in range(10):
        clock.advance(1)
        for _ in range(10):
            tallied.add(ANSWER)
    line = drawn(tallied, 160)
    for fact in ("200/400 50%", "20/s", "10 s left", "$0.1000 paid", "$0.5000 avoided", "100 hits", "1 retry"):
        assert fact in line
    assert "error" not in line


def test_errors_are_told_before_hits_where_there_is_little_room() -> None:
    tallied = tally(RunStarted(10, ("m",)), HitsServed(5, 0.5), AnswerReceived(None, None, "boom"))
    line = drawn(tallied, 50)
    assert "1 error" in line
    assert "hits" not in line


def test_a_pause_takes_the_place_of_the_rate() -> None:
    tallied = tally(RunStarted(10, ("m",)), CoolDown("gpt-4.1-mini", 12, "429"))
    line = drawn(tallied, 80)
    assert "pausing 12 s: gpt-4.1-mini asked for it (429)" in line
    assert "/s" not in line.replace("asked", "")


# In a terminal of its own

_SCRIPT = """
import sys, warnings
from lm_deluge.events import *
from lm_deluge.progress import listener

listen = listener("rich")
listen(RunStarted(10, ("m",)))
listen(HitsServed(6, 0.03))
for command in map(str.strip, sys.stdin):
    if command == "warn":
        warnings.warn("something odd")
        print("a result", flush=True)
    elif command == "break":
        raise RuntimeError("broken")
    elif command == "finish":
        listen(RunFinished(RunReport(prompts=10, hits=6, calls=4, cost=0.004, cost_avoided=0.03, seconds=2.0)))
print("rich" in sys.modules, flush=True)
"""


class Terminal:
    """A process whose standard error is a terminal."""

    def __init__(self) -> None:
        self._screen, slave = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=slave,
            env={**os.environ, "COLUMNS": "80", "TERM": "xterm"},
        )
        os.close(slave)

    def say(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def wait_for(self, text: str) -> None:
        while text not in self.seen:
            assert select.select([self._screen], [], [], 60)[0], f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self._screen, 65536).decode()

    def end(self) -> str:
        """What the process wrote to standard output; ``seen`` is complete afterwards."""
        out, _ = self.process.communicate(timeout=60)
        try:
            while block := os.read(self._screen, 65536):
                self.seen += block.decode()
        except OSError:  # the other end of a terminal is gone
            pass
        os.close(self._screen)
        return out.decode()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.process.kill()
    opened.process.wait()


def assert_restored(seen: str) -> None:
    assert "\x1b[?25l" in seen, "the line was never live"
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l"), "the cursor stayed hidden"


def test_the_summary_takes_the_place_of_the_live_line(terminal: Terminal) -> None:
    terminal.wait_for("6/10 60%")
    terminal.say("finish")
    terminal.end()
    assert_restored(terminal.seen)
    assert terminal.seen.endswith("6 hits, 4 calls, $0.0040 paid, $0.0300 avoided.\r\n")


def test_warnings_stand_above_the_line_and_standard_output_is_left_alone(terminal: Terminal) -> None:
    terminal.wait_for("6/10")
    terminal.say("warn")
    terminal.wait_for("something odd")
    terminal.say("finish")
    assert terminal.end().splitlines()[0] == "a result"
    assert "a result" not in terminal.seen
    lines = re.split("[\r\n]+", terminal.seen)
    assert not any("something odd" in line and "6/10" in line for line in lines)


def test_the_terminal_is_given_back_when_the_program_breaks(terminal: Terminal) -> None:
    terminal.wait_for("6/10")
    terminal.say("break")
    terminal.end()
    assert terminal.process.returncode == 1
    assert_restored(terminal.seen)
    assert "Stopped: 6/10 prompts" in terminal.seen


def test_a_short_run_does_not_import_rich(terminal: Terminal) -> None:
    terminal.say("finish")
    assert terminal.end() == "False\n"
    assert terminal.seen == ("10 prompts in 2.0 s (5.0/s): 6 hits, 4 calls, $0.0040 paid, $0.0300 avoided.\r\n")


# With a client


def test_a_client_shows_its_run(make_client: object, capsys: pytest.CaptureFixture[str]) -> None:
    client = make_client(progress="manual")  # type: ignore[operator]

    async def main() -> None:
        await client.process_prompts_async(["one", "two", "three"])

    asyncio.run(main())
    err = capsys.readouterr().err
    assert re.fullmatch(r"3 prompts in .+ \(.+/s\): 3 calls, \$0\.\d+ paid\.\n", err)
