"""Playing rounds and judging them: a process leaves runs, another asks the same, and files say what was lost."""

import asyncio
import math
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from . import driving
from .asking import Again, Found
from .spec import SECONDS, Outcome, Round

__all__ = ["Plan", "Result", "play", "report", "summary"]

COLUMNS = ("hangs", "lost", "again", "leases", "extra")

_TIMEOUT = "Timeout (0:01:00)!"  # how a round ends that takes too long
_SLOW = 12.0  # seconds: nothing is wrong with such a round, but it is worth a look
_GRACE = 3.0  # seconds in which a process that lives on writes and gives back what it has
_DIED = frozenset({"sigterm"})
"""Ways that end a process without a word. What reached a caller is safe then, and its leases run out by themselves."""


class Plan(msgspec.Struct, frozen=True):
    """A round, and whether another process has the same run meanwhile."""

    way: str
    round: Round
    accompanied: bool


class Result(msgspec.Struct):
    """What is wrong with a round."""

    plan: Plan
    hangs: int = 0
    lost: int = 0
    again: int = 0
    leases: int = 0
    extra: int = 0
    wrong: str = ""
    seconds: float = 0.0
    parts: tuple[float, ...] = ()
    words: str = ""

    @property
    def is_bad(self) -> bool:
        return bool(self.hangs or self.lost or self.again or self.leases or self.extra or self.wrong)


class Lane:
    """Plays batches of rounds, one round after another, with processes of its own."""

    def __init__(self, directory: Path, port: int, log: driving.Journal) -> None:
        self._directory = directory
        self._port = port
        self._log = log
        self._askers: dict[str, driving.Process] = {}
        self.results: list[Result] = []

    async def play(self, name: str, plans: Sequence[Plan]) -> None:
        """Play rounds that share a process, but for those that may end it."""
        journal = driving.Journal(self._directory / f"{name}.marks")
        living = [each for each in plans if not each.round.dies]
        while living:
            living = await self._share(journal, living)
        for each in plans:
            if each.round.dies:
                await self._share(journal, [each])
        journal.path.unlink(missing_ok=True)

    async def close(self) -> None:
        for asker in self._askers.values():
            await asker.end(seconds=5)

    async def _share(self, journal: driving.Journal, plans: Sequence[Plan]) -> list[Plan]:
        """Play rounds in one process. Returns those that it did not live to see."""
        child = driving.Process("-m", "tests.stress.leaving", directory=self._directory)
        await child.start()
        ended: list[Result] = []
        left = list(plans)
        while left:
            each = left.pop(0)
            result = Result(each)
            began = time.monotonic()
            companion = self._accompany(each) if each.accompanied else None
            line = await child.ask(msgspec.json.encode(each.round), seconds=SECONDS + 15)
            if companion is not None:
                await self._judge_companion(result, companion)
            result.seconds = time.monotonic() - began
            if line is None:
                if each.round.dies:
                    ended.append(result)
                    break
                code = await child.end(seconds=1)  # it has ended, or never will
                _count_end(result, code, child.words())
                self._report(result)
                break
            outcome = msgspec.json.decode(line, type=Outcome)
            result.wrong = result.wrong or outcome.wrong
            result.parts = (outcome.seconds, outcome.again_seconds)
            if each.round.again == "ended":
                ended.append(result)
            else:
                await self._judge(result, journal, alive=True)
        code = await child.end(seconds=SECONDS + 15)
        if ended and not (plans[0].round.dies and code in (1, 3, 130, 143, -2, -15) and _TIMEOUT not in child.words()):
            _count_end(ended[-1], code, child.words())  # the end of the process is that of its last round
        for result in ended:
            await self._judge(result, journal, alive=False)
        child.said.unlink()
        return left

    async def _take_down(self, child: driving.Process) -> str:
        child.kill()
        await child.end(seconds=5)
        return child.words()

    def _accompany(self, plan: Plan) -> "asyncio.Task[Found | None]":
        again = self._again(plan.round, "c", [])
        return asyncio.create_task(self._ask("companion", again))

    async def _judge_companion(self, result: Result, companion: "asyncio.Task[Found | None]") -> None:
        found = await companion
        if found is None:
            result.hangs += 1
        elif found.wrong:
            result.wrong = f"companion: {found.wrong}"

    def _again(self, round: Round, phase: str, must: list[str]) -> Again:
        return Again(
            name=round.name,
            path=round.path,
            marks=round.marks,
            port=self._port,
            names=round.names,
            must=must,
            phase=phase,
            single_flight=round.single_flight,
            warm=round.warm,
            seed=round.seed,
        )

    async def _ask(self, who: str, again: Again) -> Found | None:
        """Have another process ask; None if it hangs."""
        if who not in self._askers:
            self._askers[who] = driving.Process("-m", "tests.stress.asking", directory=self._directory)
            await self._askers[who].start()
        line = await self._askers[who].ask(msgspec.json.encode(again), seconds=SECONDS + 15)
        if line is None:
            words = await self._take_down(self._askers.pop(who))
            print(f"{who} of {again.name} hangs:\n{words[-6000:]}", file=sys.stderr, flush=True)
            return None
        return msgspec.json.decode(line, type=Found)

    async def _judge(self, result: Result, journal: driving.Journal, *, alive: bool) -> None:
        """Look at what a round has left, and have another process ask the same."""
        round = result.plan.round
        facts = _Facts(round, journal.of(round.name))
        must = facts.safe
        until = time.monotonic() + (_GRACE if alive and not round.way.startswith("close") else 0.3 * alive)
        left = driving.leases(round.path)
        while (left or driving.entries(round.path) < len(must)) and time.monotonic() < until:
            await asyncio.sleep(0.02)
            left = driving.leases(round.path)
        began = time.monotonic()
        found = await self._ask("asker", self._again(round, "3", sorted(must)))
        result.parts += (time.monotonic() - began,)
        result.seconds += result.parts[-1]
        if found is None:
            result.hangs += 1
        else:
            result.lost = len(found.lost)
            result.wrong = result.wrong or found.wrong
        if round.way not in _DIED:
            result.leases = len(driving.without_notes(left, round.path))
        # What the run that was left still writes down while it ends comes into the account, too.
        facts = _Facts(round, journal.of(round.name))
        asked = self._log.of(round.name)
        result.again = len({prompt for what, phase, prompt, _ in asked if what == "asked" and phase in "23"} & must)
        result.extra = facts.extra_calls(asked, shared=result.plan.accompanied)
        self._log.forget(round.name)
        journal.forget(round.name)
        for path in self._directory.glob(f"{round.name}.db*"):
            path.unlink()
        self._report(result)

    def _report(self, result: Result) -> None:
        self.results.append(result)
        report(result)


def _count_end(result: Result, code: int | None, words: str) -> None:
    """How the process of a round ended, if it should not have, or not so."""
    if code is None or _TIMEOUT in words:
        result.hangs += 1
    elif code:
        result.wrong = f"exit status {code}"
    result.words = words if code else ""


def report(result: Result) -> None:
    """Say what is wrong with a round, if anything is."""
    if result.is_bad or result.seconds > _SLOW:
        values = {name: value for name in (*COLUMNS, "wrong") if (value := getattr(result, name))}
        round = msgspec.to_builtins(result.plan.round)
        told = {name: value for name, value in round.items() if name not in ("path", "marks", "port", "seed")}
        beside = ", accompanied" if result.plan.accompanied else ""
        parts = " + ".join(f"{part:.1f}" for part in result.parts)
        word = "BAD" if result.is_bad else "SLOW"
        print(f"{word} {values} in {result.seconds:.1f} s ({parts}): {told}{beside}", file=sys.stderr, flush=True)
        if result.words:
            print(result.words[-6000:], file=sys.stderr, flush=True)


class _Facts:
    """What the marks of a round say."""

    def __init__(self, round: Round, notes: Sequence[driving.Note]) -> None:
        self._round = round
        self._notes = notes
        at = {what: moment for what, _, _, moment in notes if what in ("ended", "closing", "closed")}
        self._ended = at.get("ended", math.inf)
        self._closing = at.get("closing", math.inf)
        self._closed = at.get("closed", math.inf)

    @property
    def _died(self) -> bool:
        """Whether the thread of the run was stopped in the middle of something, so that what it had in hand is gone."""
        return self._round.way in _DIED or self._round.way.endswith("daemon")

    @property
    def safe(self) -> set[str]:
        """Prompts whose answers must be in the file when the run is over."""
        if self._died:
            return {prompt for what, _, prompt, _ in self._notes if what == "told"}
        until = min(self._ended, self._closing)
        return set(self._arrived(until))

    def _arrived(self, until: float) -> "Counter[str]":
        arrived: Counter[str] = Counter()
        for what, phase, prompt, at in self._notes:
            if phase in ("1", "o") and at <= until:
                arrived[prompt] += {"arrived": 1, "torn": -1}.get(what, 0)
        return +arrived

    def extra_calls(self, asked: Sequence[driving.Note], *, shared: bool) -> int:
        """Calls that nobody needed: beyond one for each prompt and each call in flight at the ending."""
        round = self._round
        extra = 0
        if self._closed < math.inf and round.way != "close cache":
            late = {
                prompt
                for what, phase, prompt, at in self._notes
                if (what, phase) == ("sent", "1") and at > self._closed
            }
            extra += sum(
                what == "asked" and phase == "1" and prompt in late and at > self._closed
                for what, phase, prompt, at in asked
            )
        if not round.single_flight and (shared or round.threads > 1):
            return extra  # all of them ask, as documented
        if not round.single_flight and round.again == "same" and round.runner.startswith("own"):
            return extra  # a run that was not cancelled goes on when its loop does
        calls = Counter(prompt for what, _, prompt, _ in asked if what == "asked")
        first = Counter(prompt for what, phase, prompt, _ in asked if what == "asked" and phase in ("1", "o"))
        kept = Counter(self.safe) if self._died else self._arrived(min(self._ended, self._closing))
        in_flight = first - kept
        allowed = Counter(round.names) + in_flight
        beyond = (calls - allowed).total()
        if round.again == "same" and round.runner.startswith("own"):
            # A loop of one's own stops in the middle of the run, which ends when the loop goes on. What is in flight
            # then was not when the loop stopped.
            beyond = max(0, beyond - round.concurrency)
        return extra + beyond


Batches = Mapping[str, Sequence[Plan]]


Further = Callable[[Path, int, driving.Journal], Sequence["asyncio.Task[list[Result]]"]]


def play(
    make: Callable[[Path, int], Batches], *, lanes: int, busy: int, further: Further = lambda *_: ()
) -> list[Result]:
    """Play the rounds that ``make`` gives for a directory and the port of a server.

    Args:
        make: gives rounds by the name of what shares a process; it begins their names, before an ``r``.
        lanes: how many are played at once.
        busy: processes that keep cores busy meanwhile.
        further: starts rounds of another kind, given the server's log, too.
    """
    # A shell has interrupts ignored in what it runs in the background, and the processes here would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="stress-"))
    try:
        with driving.busy_cores(busy), driving.server(directory / "server.log") as port:
            return asyncio.run(_play(directory, port, make(directory, port), lanes, further))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _play(directory: Path, port: int, batches: Batches, lanes: int, further: Further) -> list[Result]:
    log = driving.Journal(directory / "server.log")
    waiting = list(batches.items())

    async def work() -> list[Result]:
        lane = Lane(directory, port, log)
        while waiting:
            await lane.play(*waiting.pop(0))
        await lane.close()
        return lane.results

    results = await asyncio.gather(*(work() for _ in range(lanes)))
    results += await asyncio.gather(*further(directory, port, log))
    return [result for part in results for result in part]


def summary(results: Sequence[Result], ways: Sequence[str]) -> str:
    """The table, with a row for each way."""
    by_way: dict[str, list[Result]] = {way: [] for way in ways}
    for result in results:
        by_way[result.plan.way].append(result)
    rows = [[name, *_sums(group)] for name, group in by_way.items() if group]
    rows.append(["all", *_sums(results)])
    titles = ["way", "rounds", *COLUMNS, "wrong", "bad", "median s", "max s"]
    return driving.table(titles, rows)


def _sums(results: Sequence[Result]) -> list[object]:
    counts = [
        sum(getattr(result, name) for result in results) for name in ("hangs", "lost", "again", "leases", "extra")
    ]
    wrong, bad = sum(bool(result.wrong) for result in results), sum(result.is_bad for result in results)
    seconds = [result.seconds for result in results]
    return [
        len(results),
        *(f"{value:,}" for value in counts),
        wrong,
        bad,
        f"{statistics.median(seconds):.2f}",
        f"{max(seconds):.1f}",
    ]
